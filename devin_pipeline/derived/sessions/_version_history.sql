-- One row per feed and session with a version that is not a tombstone: the day it belongs to in that feed, and what all
-- its versions say together, those on days included from which it moved.
with
histories_of_days as (
    select
        day,
        session_id,
        feed,
        arg_max(is_listed, fetched_at) as is_listed,
        arg_max_null(moved_to, fetched_at) is not null as has_moved,
        -- guard: what a session said before it vanished | filter (where is_listed)
        max(fetched_at) filter (where is_listed) as latest_fetched_at,
        min(fetched_at) filter (where is_listed) as first_seen_at,
        max(fetched_at) as last_changed_at,
        count(*) filter (where is_listed) as versions
    from _versions
    where day between $first_day and $last_day
    group by day, session_id, feed
    having count(*) filter (where is_listed) > 0
)

select
    day,
    session_id,
    feed,
    is_listed,
    latest_fetched_at,
    min(first_seen_at) over session as first_seen_at,
    max(last_changed_at) over session as last_changed_at,
    sum(versions) over session as versions
from histories_of_days
window session as (partition by session_id, feed)
qualify
    not has_moved
    and row_number() over (
        partition by session_id, feed
        order by has_moved asc, latest_fetched_at desc, day desc
    ) = 1
