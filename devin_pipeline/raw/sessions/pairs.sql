-- A tombstone for each day that holds a session another day of the feed has a newer version of. And one without
-- `moved_to`, which lets the session count again, for the day with its newest version where no day holds it any more.
with
lost as (
    select
        arg_max(day, (version_fetched_at, day)) filter (where version_fetched_at is not null) as day,
        session_id
    from holdings
    group by session_id
    having bool_and(has_moved)
)

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
union all by name
select
    holdings.day,
    holdings.session_id,
    holdings.created_at,
    holdings.updated_at,
    greatest($now::timestamptz, holdings.fetched_at + interval 1 microsecond) as fetched_at,
    false as is_listed,
    null::date as moved_to
from holdings
semi join lost using (day, session_id)
order by day, session_id
