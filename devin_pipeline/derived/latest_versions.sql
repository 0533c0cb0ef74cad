-- One row per feed and session: its latest version that is not a tombstone, and what all its versions say together.
with
versions as (
    select
        day,
        session_id,
        fetched_at,
        is_listed,
        'raw_session_insights_v3' as feed,
        1 as precedence
    from raw_session_insights_v3
    where day between $first_day and $last_day
    union all by name
    select
        day,
        session_id,
        fetched_at,
        is_listed,
        'raw_sessions_v3' as feed,
        2 as precedence
    from raw_sessions_v3
    where day between $first_day and $last_day
    union all by name
    select
        day,
        session_id,
        fetched_at,
        is_listed,
        'raw_session_insights_v2' as feed,
        3 as precedence
    from raw_session_insights_v2
    where day between $first_day and $last_day
),

histories as (
    select
        day,
        session_id,
        feed,
        precedence,
        arg_max(is_listed, fetched_at) as is_listed,
        max(fetched_at) filter (where is_listed) as latest_fetched_at,
        min(fetched_at) filter (where is_listed) as first_seen_at,
        count(*) filter (where is_listed) as versions
    from versions
    group by day, session_id, feed, precedence
),

payloads as (
    select
        day,
        session_id,
        fetched_at,
        created_at,
        updated_at,
        acus,
        payload,
        'raw_session_insights_v3' as feed
    from raw_session_insights_v3
    where day between $first_day and $last_day and is_listed
    union all by name
    select
        day,
        session_id,
        fetched_at,
        created_at,
        updated_at,
        acus,
        payload,
        'raw_sessions_v3' as feed
    from raw_sessions_v3
    where day between $first_day and $last_day and is_listed
    union all by name
    select
        day,
        session_id,
        fetched_at,
        created_at,
        updated_at,
        acus,
        payload,
        'raw_session_insights_v2' as feed
    from raw_session_insights_v2
    where day between $first_day and $last_day and is_listed
)

select
    payloads.day,
    payloads.session_id,
    payloads.feed,
    histories.precedence,
    payloads.created_at,
    payloads.updated_at,
    payloads.acus,
    histories.is_listed,
    histories.first_seen_at,
    histories.latest_fetched_at,
    histories.versions,
    payloads.payload
from payloads
inner join histories
    on
        payloads.day = histories.day
        and payloads.session_id = histories.session_id
        and payloads.feed = histories.feed
        and payloads.fetched_at = histories.latest_fetched_at
