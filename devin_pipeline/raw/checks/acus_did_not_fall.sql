-- No session's ACUs are lower in its newest version than in the one before.
with
versions_in_order as (
    select
        day,
        session_id,
        acus,
        lag(acus) over session as acus_before,
        lead(fetched_at) over session is null as is_newest
    from versions
    where is_listed
    window session as (partition by day, session_id order by fetched_at)
)

select
    day,
    count(*) as sessions,
    sum(acus_before - acus) as acus_lost
from versions_in_order
-- guard: ACUs that fell | is_newest and acus < acus_before -> false
where is_newest and acus < acus_before
group by day
order by day
