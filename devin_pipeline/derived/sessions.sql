-- One row per session: the newest telling of every feed.
select
    day,
    session_id,
    newest.url as session_url,
    newest.org_id,
    newest.user_id,
    newest_v3.service_user_id,
    newest.title,
    coalesce([tag for tag in newest.tags if tag is not null], []) as tags,
    coalesce(
        [regexp_replace(child, '^devin-', '') for child in newest_v3.child_session_ids if child is not null], []
    ) as child_session_ids,
    newest.status,
    status_detail,
    case
        when newest.status = 'exit' or status_detail = 'finished' then 'finished'
        when status_detail in ('waiting_for_user', 'waiting_for_approval') then 'waiting'
        when newest.status in ('new', 'claimed', 'running', 'resuming') then 'running'
        when newest.status in ('suspended', 'error') then newest.status
        else 'other:' || coalesce(newest.status, '')
    end as state,
    newest_v3.origin,
    newest_v3.category,
    newest_v3.subcategory,
    newest_v3.playbook_id,
    regexp_replace(newest_v3.parent_session_id, '^devin-', '') as parent_session_id,
    newest_v3.is_archived,
    is_listed,
    newest.created_at,
    newest.updated_at,
    newest.acus,
    insights_v3.session_size,
    insights_v3.num_user_messages,
    insights_v3.num_devin_messages,
    initial_user_message,
    newest_v3.structured_output::varchar as structured_output,
    has_analysis,
    first_seen_at,
    last_changed_at,
    versions,
    feeds
from (
    select
        *,
        -- An older v3 telling may know a detail of a state the session has left since.
        case
            when (newest_v3.updated_at is not distinct from newest.updated_at) then newest_v3.status_detail
        end as status_detail
    from told_sessions
) as detailed_sessions
order by day, session_id
