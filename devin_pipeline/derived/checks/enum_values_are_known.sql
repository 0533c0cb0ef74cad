-- Status, detail, origin, category and size hold values the API reference lists.
with
sent as (
    select
        day,
        -- All fields in one reading of the sessions.
        unnest([
            {
                'field': 'status',
                'value': status,
                'is_known': status in (
                    'new', 'creating', 'claimed', 'running', 'exit', 'error', 'suspended', 'resuming'
                )
            },
            {
                'field': 'status_detail',
                'value': status_detail,
                'is_known': status_detail in (
                    'working', 'waiting_for_user', 'waiting_for_approval', 'finished', 'inactivity', 'user_request',
                    'usage_limit_exceeded', 'out_of_credits', 'out_of_quota', 'no_quota_allocation', 'payment_declined',
                    'org_usage_limit_exceeded',
                    'total_session_limit_exceeded', 'user_usage_limit_exceeded',
                    'contract_expired', 'error'
                )
            },
            {
                'field': 'origin',
                'value': origin,
                'is_known': origin in (
                    'webapp', 'slack', 'teams', 'api', 'linear', 'jira', 'scheduled', 'automation',
                    'cli', 'desktop',
                    'code_scan', 'other'
                )
            },
            {
                'field': 'category',
                'value': category,
                'is_known': category in (
                    'bug_fixing', 'ci_cd_and_devops', 'code_quality_and_security', 'code_review', 'security',
                    'code_review_and_analysis',
                    'data_and_automation', 'documentation_and_content', 'feature_development',
                    'migrations_and_upgrades',
                    'other', 'refactoring_and_optimization', 'research_and_exploration', 'unit_test_generation'
                )
            },
            {
                'field': 'session_size',
                'value': session_size,
                'is_known': session_size in ('xs', 's', 'm', 'l', 'xl')
            }
        ]) as sent
    from sessions
)

select
    day,
    sent.field,
    -- The API's text: shown only when it reads like a value of an enum.
    case when regexp_full_match(sent.value, '[a-z0-9_]{1,40}') then sent.value else '(unprintable)' end as value,
    count(*) as sessions
from sent
where not sent.is_known
group by all
order by all
