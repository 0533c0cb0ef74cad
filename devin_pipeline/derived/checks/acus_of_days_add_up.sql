-- The ACUs of a session's days are those of the session, to the last digit.
with
by_day as (
    select
        day,
        session_id,
        sum(acus) as acus
    from session_acus_by_day
    group by day, session_id
)

select
    coalesce(sessions.day, by_day.day) as day,
    count(*) as sessions
from sessions
full join by_day on sessions.day = by_day.day and sessions.session_id = by_day.session_id
where
    $hour = 8
    and sessions.acus is distinct from by_day.acus
group by coalesce(sessions.day, by_day.day)
order by day
