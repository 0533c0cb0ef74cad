-- One row per session, merged from the latest version in each feed.
select
    _session_sources.day,
    _session_sources.session_id,
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
    _session_sources.status_detail,
    case
        when newest.status = 'exit' or _session_sources.status_detail = 'finished' then 'finished'
        when _session_sources.status_detail in ('waiting_for_user', 'waiting_for_approval') then 'waiting'
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
    _session_sources.is_listed,
    newest.created_at,
    newest.updated_at,
    newest.acus,
    insights_v3.session_size,
    insights_v3.num_user_messages,
    insights_v3.num_devin_messages,
    insights_v2.initial_user_message,
    newest_v3.structured_output::varchar as structured_output,
    _session_sources.has_analysis,
    _session_sources.first_seen_at,
    _session_sources.last_changed_at,
    _session_sources.versions,
    _session_sources.feeds
from _session_sources
inner join _parsed_versions as newest
    on
        _session_sources.session_id = newest.session_id
        and _session_sources.newest_feed = newest.feed
left join _parsed_versions as newest_v3
    on
        _session_sources.session_id = newest_v3.session_id
        and _session_sources.newest_v3_feed = newest_v3.feed
left join _parsed_versions as insights_v3
    on
        _session_sources.session_id = insights_v3.session_id
        and insights_v3.feed = 'raw_session_insights_v3'
left join _parsed_versions as insights_v2
    on
        _session_sources.session_id = insights_v2.session_id
        and insights_v2.feed = 'raw_session_insights_v2'
order by _session_sources.day, _session_sources.session_id
