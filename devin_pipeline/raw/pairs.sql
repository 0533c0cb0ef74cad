-- A tombstone for each day that holds a session another day of the feed has a newer version of.
select
    day,
    session_id,
    created_at,
    updated_at,
    greatest($now::timestamptz, fetched_at + interval 1 microsecond) as fetched_at,
    false as is_listed,
    arg_max(day, (version_fetched_at, day)) over session as moved_to
from holdings
where not has_moved and version_fetched_at is not null
window session as (partition by session_id)
qualify moved_to <> day
order by day, session_id
