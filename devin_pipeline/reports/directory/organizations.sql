-- One row per organization and time span in which what is known of it stayed the same.
with
versions as (
    select
        object_id as org_id,
        fetched_at,
        is_listed,
        is_listed_now,
        payload ->> '$.name' as name,
        try_cast(payload ->> '$.max_cycle_acu_limit' as bigint) as max_cycle_acu_limit,
        try_cast(payload ->> '$.max_session_acu_limit' as bigint) as max_session_acu_limit
    from _directory_versions
    where kind = 'organizations'
),

-- A tombstone says nothing of names and limits: what was known last stands.
states as (
    select
        *,
        row(name, max_cycle_acu_limit, max_session_acu_limit) as shown
    from versions
    where is_listed
),

changes as (
    select *
    from states
    -- guard: organizations: a row per change | qualify shown is -> qualify true or shown is
    qualify shown is distinct from lag(shown) over (partition by org_id order by fetched_at)
)

select
    org_id,
    fetched_at as valid_from,
    name,
    lead(fetched_at) over (partition by org_id order by fetched_at) as valid_to,
    valid_to is null as is_current,
    valid_to is not null or is_listed_now as is_listed,
    max_cycle_acu_limit,
    max_session_acu_limit
from changes
order by org_id, valid_from
