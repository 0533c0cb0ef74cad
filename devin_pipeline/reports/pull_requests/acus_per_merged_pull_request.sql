-- One row per week and organization: what a merged pull request cost.
with
spend as (
    select
        date_trunc('week', day)::date as week,
        org_id,
        sum(acus) as acus,
        -- None merging cost nothing; those whose ACUs are all unknown cost an unknown amount.
        case when sum(sessions_with_merged_pull_request) = 0 then 0 else sum(acus_of_merging_sessions) end
            as acus_of_merging_sessions
    from acu_daily
    group by date_trunc('week', day), org_id
),

merged as (
    select
        date_trunc('week', first_day)::date as week,
        org_id,
        count(*) as pull_requests
    from pull_requests
    where state = 'merged'
    group by date_trunc('week', first_day), org_id
)

select
    spend.week,
    spend.org_id,
    spend.acus,
    coalesce(merged.pull_requests, 0) as merged_pull_requests,
    -- Where the API gives 0 ACUs for every session, nothing can be said of what a pull request cost.
    -- guard: a merged pull request that seems to cost nothing | nullif(spend.acus, 0) -> spend.acus
    exact_ratio(nullif(spend.acus, 0), merged.pull_requests) as acus_per_merged_pull_request,
    spend.acus_of_merging_sessions
from spend
left join merged on spend.week = merged.week and spend.org_id is not distinct from merged.org_id
order by spend.week, spend.org_id
