"""A district's year, from Ed-Fi interchange XML to events.

interchange.py reads the files, reader.py puts them into a temporary database, district.py says what the district holds,
events.py what that becomes. people.py, classes.py, programs.py and conduct.py are a subject each; synthetic.py makes up
what the files lack.
"""

from skillcore_streams.edfi.district import District
from skillcore_streams.edfi.events import events
from skillcore_streams.edfi.interchange import EdFiError, Reading
from skillcore_streams.edfi.reader import Report

__all__ = ["District", "EdFiError", "Reading", "Report", "events"]
