-- One row per day and session of those wanted: the latest row the day has of it, and whether the session moved away.
select
    day,
    session_id,
    arg_max(created_at, fetched_at) as created_at,
    arg_max_null(updated_at, fetched_at) as updated_at,
    max(fetched_at) as fetched_at,
    max(fetched_at) filter (where is_listed) as version_fetched_at,
    arg_max(is_listed, fetched_at) as is_listed,
    arg_max_null(moved_to, fetched_at) is not null as has_moved
from stored
where session_id in (select session_id from wanted)
group by day, session_id
