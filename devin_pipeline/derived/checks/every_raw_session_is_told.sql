-- Distinct session ids over the raw feeds are the rows of sessions.
with
raw_sessions as (
    select
        day,
        session_id
    from raw_session_insights_v2
    union
    select
        day,
        session_id
    from raw_sessions_v3
    union
    select
        day,
        session_id
    from raw_session_insights_v3
)

select
    coalesce(raw_sessions.day, sessions.day) as day,
    count(*) filter (where sessions.session_id is null) as missing,
    count(*) filter (where raw_sessions.session_id is null) as without_raw
from raw_sessions
full join sessions on raw_sessions.day = sessions.day and raw_sessions.session_id = sessions.session_id
where sessions.session_id is null or raw_sessions.session_id is null
group by coalesce(raw_sessions.day, sessions.day)
order by day
