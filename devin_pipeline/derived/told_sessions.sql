-- One row per session: which feed's telling counts for which field.
--
-- Tellings are ordered by `updated_at`, newest first, then by feed, never by when they were fetched: the answer must
-- not depend on timing. `newest` speaks for what every feed carries, `newest_v3` for what only v3 carries.
with
ordered as (
    select
        -- Structs of it are made thrice below; an analysis is most of a telling.
        * exclude (analysis),
        row_number() over (
            partition by day, session_id
            order by updated_at desc nulls last, precedence asc
        ) as place
    from tellings
)

select
    day,
    session_id,
    bool_or(is_listed) as is_listed,
    min(first_seen_at) as first_seen_at,
    max(last_changed_at) as last_changed_at,
    sum(versions)::integer as versions,
    list(feed order by feed) as feeds,
    bool_or(has_analysis) as has_analysis,
    first(feed order by place) filter (where has_analysis) as analysed_by,
    first(initial_user_message) filter (where feed = 'raw_session_insights_v2') as initial_user_message,
    first(ordered order by place) as newest,
    first(ordered order by place) filter (where feed <> 'raw_session_insights_v2') as newest_v3,
    first(ordered) filter (where feed = 'raw_session_insights_v3') as insights_v3
from ordered
group by day, session_id
