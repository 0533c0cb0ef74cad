-- One row per session with an analysis: that of the newest telling which has one.
select
    told_sessions.day,
    told_sessions.session_id,
    tellings.analysis
from tellings
inner join told_sessions
    on
        tellings.session_id = told_sessions.session_id
        and tellings.feed = told_sessions.analysed_by
