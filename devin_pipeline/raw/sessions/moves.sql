-- The versions and tombstones to add, now that the other days of the feed are looked at.
--
-- A session that is new to its day leaves each other day that holds it: with a tombstone that says where to. One that
-- is missing from a read of its day moved, if another day has a newer version of it. What another run found on another
-- day after this read began wins over this read.
with
elsewhere as (
    select
        added.day as added_day,
        holdings.*
    from added
    inner join holdings on added.session_id = holdings.session_id and added.day <> holdings.day
    where not holdings.has_moved
),

outdated as (
    select distinct
        added_day as day,
        session_id
    from elsewhere
    -- Not what this very read found there before.
    -- guard: a newer read of the day a session seems to have left
    --   | is_listed and fetched_at > $read_at and fetched_at <= $now -> false
    where is_listed and fetched_at > $read_at and fetched_at <= $now
),

arrived as (
    select
        day,
        session_id
    from added
    anti join outdated using (day, session_id)
    where is_listed and is_new
),

-- Where a session is that a read of its day misses.
found_elsewhere as (
    select
        elsewhere.added_day as day,
        elsewhere.session_id,
        arg_max(elsewhere.day, elsewhere.version_fetched_at) as moved_to
    from elsewhere
    inner join holdings as own
        on elsewhere.added_day = own.day and elsewhere.session_id = own.session_id
    -- Not where the same read misses it too.
    anti join added as missed
        on elsewhere.day = missed.day and elsewhere.session_id = missed.session_id
    where elsewhere.version_fetched_at > own.version_fetched_at
    group by elsewhere.added_day, elsewhere.session_id
)

select
    added.* exclude (is_new) replace (
        case when not added.is_listed then coalesce(arrived.day, found_elsewhere.moved_to) end as moved_to
    )
from added
anti join outdated on added.is_listed and added.day = outdated.day and added.session_id = outdated.session_id
left join arrived on added.session_id = arrived.session_id
left join found_elsewhere on added.day = found_elsewhere.day and added.session_id = found_elsewhere.session_id
union all by name
select
    elsewhere.day,
    elsewhere.session_id,
    elsewhere.created_at,
    elsewhere.updated_at,
    greatest($read_at::timestamptz, elsewhere.fetched_at + interval 1 microsecond) as fetched_at,
    false as is_listed,
    arrived.day as moved_to
from elsewhere
inner join arrived on elsewhere.session_id = arrived.session_id and elsewhere.added_day = arrived.day
anti join added on elsewhere.day = added.day and elsewhere.session_id = added.session_id
order by day, session_id
