-- One row per day: how many sessions the newest read of it listed, those included that moved to another day since.
with
sessions as (
    select
        day,
        arg_max(is_listed or moved_to is not null, fetched_at) as is_listed
    from versions
    group by day, session_id
)

select
    day,
    count(*) filter (where is_listed) as listed
from sessions
group by day
order by day
