"""A district's year, from Ed-Fi interchange XML to events.

interchange.py reads the files, district.py says what the district holds, events.py what that becomes.
"""

from skillcore_streams.edfi.district import District, Report
from skillcore_streams.edfi.events import events
from skillcore_streams.edfi.interchange import EdFiError

__all__ = ["District", "EdFiError", "Report", "events"]
