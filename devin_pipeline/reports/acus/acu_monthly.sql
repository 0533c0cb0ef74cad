-- One row per month, organization, user and service user.
select
    date_trunc('month', day)::date as month,
    org_id,
    user_id,
    service_user_id,
    sum(sessions)::bigint as sessions,
    sum(acus) as acus,
    sum(sessions_with_unknown_acus)::bigint as sessions_with_unknown_acus,
    sum(pull_request_links)::bigint as pull_request_links,
    sum(merged_pull_request_links)::bigint as merged_pull_request_links,
    sum(sessions_with_pull_request)::bigint as sessions_with_pull_request,
    sum(sessions_with_merged_pull_request)::bigint as sessions_with_merged_pull_request,
    sum(acus_of_merging_sessions) as acus_of_merging_sessions,
    sum(analysed_sessions)::bigint as analysed_sessions,
    sum(feedback_items)::bigint as feedback_items
from acu_daily
group by date_trunc('month', day), org_id, user_id, service_user_id
order by month, org_id, user_id, service_user_id
