-- One row per day, organization, user, service user, origin, category, playbook and state.
with
links as (
    select
        day,
        session_id,
        count(*) as links,
        count(*) filter (where state = 'merged') as merged_links
    from session_pull_requests
    where day between $first_day and $last_day
    group by day, session_id
),

feedback as (
    select
        day,
        session_id,
        count(*) as items
    from prompt_feedback
    where day between $first_day and $last_day
    group by day, session_id
)

select
    sessions.day,
    sessions.org_id,
    sessions.user_id,
    sessions.service_user_id,
    sessions.origin,
    sessions.category,
    sessions.playbook_id,
    sessions.state,
    count(*) as sessions,
    -- guard: spend summed as floats | (sessions.acus) -> (sessions.acus::double)::decimal(18, 6)
    sum(sessions.acus) as acus,
    count(*) filter (where sessions.acus is null) as sessions_with_unknown_acus,
    coalesce(sum(links.links), 0)::bigint as pull_request_links,
    coalesce(sum(links.merged_links), 0)::bigint as merged_pull_request_links,
    count(*) filter (where links.links > 0) as sessions_with_pull_request,
    count(*) filter (where links.merged_links > 0) as sessions_with_merged_pull_request,
    sum(sessions.acus) filter (where links.merged_links > 0) as acus_of_merging_sessions,
    count(*) filter (where sessions.has_analysis) as analysed_sessions,
    coalesce(sum(feedback.items), 0)::bigint as feedback_items
from sessions
left join links on sessions.day = links.day and sessions.session_id = links.session_id
left join feedback on sessions.day = feedback.day and sessions.session_id = feedback.session_id
where sessions.day between $first_day and $last_day
group by all
order by all
