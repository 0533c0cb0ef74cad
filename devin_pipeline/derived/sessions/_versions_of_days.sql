-- The versions of sessions that some days hold, wherever they lie.
with
sessions_of_days as (
    select session_id
    from _all_versions
    where day in (select day from _days_built)
)

select *
from _all_versions
where
    day in (select day from _days_built)
    or session_id in (select session_id from sessions_of_days)
