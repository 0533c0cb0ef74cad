-- One row per session: which feed each field comes from.
--
-- Latest versions are ordered by `updated_at`, newest first, then by feed, never by when they were fetched: the rows
-- must not depend on timing. Where feeds disagree about the day, that of the first counts. `newest_feed` is the source
-- of what every feed carries, `newest_v3_feed` of what only v3 carries.
-- Feeds are only named: a query that needs a field joins its version, since carrying all fields along costs far more.
with
ordered as (
    select
        day,
        session_id,
        feed,
        is_listed,
        first_seen_at,
        last_changed_at,
        versions,
        has_analysis,
        updated_at,
        status_detail,
        feed <> 'raw_session_insights_v2' as is_v3,
        row_number() over (
            partition by session_id
            -- guard: the newest version before the richest feed | updated_at desc nulls last,
            order by updated_at desc nulls last, precedence asc
        ) as place
    from _parsed_versions
),

chosen as (
    select
        arg_min(day, place) as day,
        session_id,
        bool_or(is_listed) as is_listed,
        min(first_seen_at) as first_seen_at,
        max(last_changed_at) as last_changed_at,
        sum(versions)::integer as versions,
        list(feed order by feed) as feeds,
        bool_or(has_analysis) as has_analysis,
        arg_min(feed, place) as newest_feed,
        arg_min(feed, place) filter (where is_v3) as newest_v3_feed,
        arg_min(feed, place) filter (where has_analysis) as analysed_by,
        arg_min_null(updated_at, place) as newest_updated_at,
        arg_min_null(updated_at, place) filter (where is_v3) as newest_v3_updated_at,
        arg_min_null(status_detail, place) filter (where is_v3) as newest_v3_status_detail
    from ordered
    group by session_id
)

select
    *,
    -- An older v3 version may know a detail of a state the session has left since.
    -- guard: a detail of a state left since | (newest_v3_updated_at is not distinct from newest_updated_at) -> true
    case when (newest_v3_updated_at is not distinct from newest_updated_at) then newest_v3_status_detail end
        as status_detail
from chosen
