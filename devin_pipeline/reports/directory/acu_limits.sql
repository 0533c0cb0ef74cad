-- One row per limit of ACUs and time span in which it stayed the same.
with
sent as (
    select
        case
            when object_id = 'enterprise' then 'enterprise'
            when starts_with(object_id, 'organization/') then 'organization'
            else 'user'
        end as scope,
        case when object_id = 'enterprise' then '(enterprise)' else regexp_replace(object_id, '^organization/', '') end
            as scope_id,
        'devin' as limit_kind,
        '/v3/enterprise/consumption/acu-limits/devin' as source,
        fetched_at,
        is_listed,
        payload -> '$.cycle_acu_limit' as sent_limit
    from _directory_versions
    where kind = 'enterprise_limits'
    union all by name
    select
        case when kind = 'user_limits' then 'user' else 'organization' end as scope,
        object_id as scope_id,
        agents.limit_kind,
        case
            when kind = 'user_limits' then '/v3beta1/enterprise/users/consumption/acu-limits'
            else '/v3beta1/enterprise/organizations/{org_id}/consumption/acu-limits'
        end as source,
        fetched_at,
        is_listed,
        payload -> ('$.' || agents.limit_kind || '.cycle_acu_limit') as sent_limit
    from _directory_versions
    cross join (values ('cloud_agent'), ('local_agent')) as agents (limit_kind)
    where kind in ('organization_limits', 'user_limits')
    union all by name
    select
        'tier' as scope,
        object_id as scope_id,
        'tier' as limit_kind,
        '/v3beta1/enterprise/usage-policies/tiers' as source,
        fetched_at,
        is_listed,
        payload -> '$.cycle_acu_limit' as sent_limit
    from _directory_versions
    where kind = 'usage_tiers'
),

states as (
    select
        *,
        -- A limit that is absent does not limit an organization; that of a user is not there.
        is_listed and (scope <> 'user' or coalesce(json_type(sent_limit), 'NULL') <> 'NULL') as is_there,
        try_cast(sent_limit ->> '$' as bigint) as cycle_acu_limit,
        row(is_there, cycle_acu_limit) as shown
    from sent
),

changes as (
    select *
    from states
    qualify shown is distinct from lag(shown) over (partition by scope, scope_id, limit_kind order by fetched_at)
),

-- Also of what is removed, which ends the row before it.
spans as (
    select
        *,
        lead(fetched_at) over (partition by scope, scope_id, limit_kind order by fetched_at) as valid_to
    from changes
)

select
    scope,
    scope_id,
    limit_kind,
    fetched_at as valid_from,
    cycle_acu_limit,
    source,
    valid_to,
    valid_to is null as is_current
from spans
-- guard: acu_limits: a removed limit | where is_there
where is_there
order by scope, scope_id, limit_kind, valid_from
