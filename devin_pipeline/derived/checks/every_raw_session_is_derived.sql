-- Each session of the raw feeds is one of sessions, on a day on which a feed holds it.
with
raw_versions as (
    select
        day,
        session_id,
        fetched_at,
        moved_to,
        1 as feed
    from raw_session_insights_v2
    union all
    select
        day,
        session_id,
        fetched_at,
        moved_to,
        2 as feed
    from raw_sessions_v3
    union all
    select
        day,
        session_id,
        fetched_at,
        moved_to,
        3 as feed
    from raw_session_insights_v3
),

held as (
    select
        day,
        session_id
    from raw_versions
    group by day, session_id, feed
    -- Not where a feed lists it on another day by now.
    having arg_max_null(moved_to, fetched_at) is null
),

raw_sessions as (
    select distinct
        day,
        session_id
    from held
),

counted as (
    select session_id
    from sessions
    semi join raw_sessions using (day, session_id)
),

found as (
    select
        day,
        true as is_missing
    from raw_sessions
    -- Where feeds disagree about the day, one of them counts.
    anti join counted using (session_id)
    union all
    select
        day,
        false as is_missing
    from sessions
    anti join raw_sessions using (day, session_id)
)

select
    day,
    count(*) filter (where is_missing) as missing,
    count(*) filter (where not is_missing) as without_raw
from found
where coalesce(list_contains($days, day), true)
group by day
order by day
