-- One row per feed and session: its latest version that is not a tombstone, and what all its versions say together.
with
-- Not materialized: the histories need no payload, and most versions' payloads are never read.
versions as not materialized (
    select
        *,
        'raw_session_insights_v3' as feed,
        1 as precedence
    from raw_session_insights_v3
    union all by name
    select
        *,
        'raw_sessions_v3' as feed,
        2 as precedence
    from raw_sessions_v3
    union all by name
    select
        *,
        'raw_session_insights_v2' as feed,
        3 as precedence
    from raw_session_insights_v2
),

histories as (
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
)

select
    versions.day,
    versions.session_id,
    versions.feed,
    versions.precedence,
    versions.created_at,
    versions.updated_at,
    versions.acus,
    histories.is_listed,
    histories.first_seen_at,
    histories.last_changed_at,
    histories.versions,
    versions.payload
from versions
inner join histories
    on
        versions.day = histories.day
        and versions.session_id = histories.session_id
        and versions.feed = histories.feed
        and versions.fetched_at = histories.latest_fetched_at
where versions.day between $first_day and $last_day
