-- One row per session with an analysis: that of the newest telling which has one.
select
    tellings.day,
    tellings.session_id,
    tellings.analysis
from tellings
inner join told_sessions
    on
        tellings.day = told_sessions.day
        and tellings.session_id = told_sessions.session_id
        and tellings.feed = told_sessions.analysed_by
