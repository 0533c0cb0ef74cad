-- One row per session with an analysis: that of the latest version which has one.
select
    _session_sources.day,
    _session_sources.session_id,
    _parsed_versions.analysis
from _parsed_versions
inner join _session_sources
    on
        _parsed_versions.session_id = _session_sources.session_id
        and _parsed_versions.feed = _session_sources.analysed_by
