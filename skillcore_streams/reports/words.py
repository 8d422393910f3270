"""The sentences that families read, by language. English stands in where a language has none."""

from __future__ import annotations

from collections.abc import Mapping

LETTER: Mapping[str, Mapping[str, str]] = {
    "en": {
        "title": "Attendance letter",
        "dear": "Dear family of {name},",
        "missed": (
            "From the day of enrollment to {as_of}, {name} was absent on {absent} of {enrolled} school days, "
            "{percent} percent. Excused and unexcused absences both count: every missed day is missed teaching."
        ),
        "at_risk_5": "A student who misses 5 percent of school days is at risk of falling behind.",
        "chronic_10": "A student who misses 10 percent of school days or more is chronically absent.",
        "severe_20": "A student who misses 20 percent of school days or more is severely chronically absent.",
        "help": (
            "We would like to help. Please call the school to talk about what keeps {name} from coming, and about "
            "transport, health or anything else that we can do together."
        ),
        "record": "If you believe that this record is wrong, you may ask the school to correct it.",
        "school": "School", "year": "School year", "as_of": "As of", "absent": "Days absent",
        "enrolled": "Days enrolled", "rate": "Rate of absence", "facts": "In figures",
    },
    "es": {
        "title": "Carta de asistencia",
        "dear": "Estimada familia de {name}:",
        "missed": (
            "Desde el día de la inscripción hasta el {as_of}, {name} estuvo ausente {absent} de {enrolled} días "
            "escolares, el {percent} por ciento. Cuentan tanto las ausencias justificadas como las injustificadas: "
            "cada día perdido es enseñanza perdida."
        ),
        "at_risk_5": "Un estudiante que falta al 5 por ciento de los días escolares corre el riesgo de atrasarse.",
        "chronic_10": "Un estudiante que falta al 10 por ciento o más de los días escolares tiene ausentismo crónico.",
        "severe_20": (
            "Un estudiante que falta al 20 por ciento o más de los días escolares tiene ausentismo crónico grave."
        ),
        "help": (
            "Queremos ayudar. Llame por favor a la escuela para hablar de lo que impide que {name} asista, y de "
            "transporte, salud o cualquier otra cosa que podamos hacer juntos."
        ),
        "record": "Si cree que este registro es incorrecto, puede pedir a la escuela que lo corrija.",
        "school": "Escuela", "year": "Año escolar", "as_of": "Hasta", "absent": "Días de ausencia",
        "enrolled": "Días de inscripción", "rate": "Tasa de ausencia", "facts": "En cifras",
    },
}


def language_of(asked: str, known: Mapping[str, object]) -> str:
    """The asked language when there are sentences in it, else English."""
    base = asked.split("-")[0].lower()
    return base if base in known else "en"
