-- Status, detail, origin, category and size hold values the API reference lists.
with
told as (
    select
        day,
        'status' as field,
        status as value,
        status in ('new', 'claimed', 'running', 'exit', 'error', 'suspended', 'resuming') as is_known
    from sessions
    union all
    select
        day,
        'status_detail' as field,
        status_detail as value,
        status_detail in (
            'working', 'waiting_for_user', 'waiting_for_approval', 'finished', 'inactivity', 'user_request',
            'usage_limit_exceeded', 'out_of_credits', 'out_of_quota', 'no_quota_allocation', 'payment_declined',
            'org_usage_limit_exceeded', 'total_session_limit_exceeded', 'user_usage_limit_exceeded',
            'contract_expired', 'error'
        ) as is_known
    from sessions
    union all
    select
        day,
        'origin' as field,
        origin as value,
        origin in (
            'webapp', 'slack', 'teams', 'api', 'linear', 'jira', 'scheduled', 'automation', 'cli', 'desktop',
            'code_scan', 'other'
        ) as is_known
    from sessions
    union all
    select
        day,
        'category' as field,
        category as value,
        category in (
            'bug_fixing', 'ci_cd_and_devops', 'code_quality_and_security', 'code_review_and_analysis',
            'data_and_automation', 'documentation_and_content', 'feature_development', 'migrations_and_upgrades',
            'other', 'refactoring_and_optimization', 'research_and_exploration', 'unit_test_generation'
        ) as is_known
    from sessions
    union all
    select
        day,
        'session_size' as field,
        session_size as value,
        session_size in ('xs', 's', 'm', 'l', 'xl') as is_known
    from sessions
)

select
    day,
    field,
    -- The API's text: shown only when it reads like a value of an enum.
    case when regexp_full_match(value, '[a-z0-9_]{1,40}') then value else '(unprintable)' end as value,
    count(*) as sessions
from told
where not is_known
group by all
order by day, field, value
