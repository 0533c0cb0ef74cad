-- One row per feed and session with a version that is not a tombstone: what all its versions say together.
select
    day,
    session_id,
    feed,
    arg_max(is_listed, fetched_at) as is_listed,
    max(fetched_at) filter (where is_listed) as latest_fetched_at,
    min(fetched_at) filter (where is_listed) as first_seen_at,
    max(fetched_at) as last_changed_at,
    count(*) filter (where is_listed) as versions
from versions
where day between $first_day and $last_day
group by day, session_id, feed
having count(*) filter (where is_listed) > 0
