-- One row per playbook and time span in which what is known of it stayed the same.
--
-- The list of the enterprise and those of organizations may have the same one: what was seen last counts.
with
versions as (
    select
        case when kind = 'playbooks' then object_id else regexp_replace(object_id, '^[^/]*/', '') end as playbook_id,
        fetched_at,
        is_listed,
        kind,
        object_id,
        is_listed_now,
        is_blanked,
        payload ->> '$.title' as title,
        payload ->> '$.access_type' as access_type,
        payload ->> '$.org_id' as org_id,
        payload ->> '$.body' as body
    from _directory_versions
    where kind in ('playbooks', 'organization_playbooks')
),

listings as (
    select
        *,
        bool_or(is_listed_now) over (partition by playbook_id) as is_in_any_list
    from versions
),

-- Of an instant at which several lists were read, that of the enterprise.
states as (
    select
        *,
        -- guard: playbooks: the hash of a blanked text | case when not is_blanked then sha256(body) end -> sha256(body)
        case when not is_blanked then sha256(body) end as body_hash,
        length(body) as body_length,
        row(title, access_type, org_id, body_hash, body_length) as shown
    from listings
    where is_listed
    qualify row_number() over (partition by playbook_id, fetched_at order by kind = 'playbooks' desc, object_id asc) = 1
),

changes as (
    select *
    from states
    qualify shown is distinct from lag(shown) over (partition by playbook_id order by fetched_at)
)

select
    playbook_id,
    fetched_at as valid_from,
    title,
    access_type,
    org_id,
    body_hash,
    body_length,
    lead(fetched_at) over (partition by playbook_id order by fetched_at) as valid_to,
    valid_to is null as is_current,
    valid_to is not null or is_in_any_list as is_listed
from changes
order by playbook_id, valid_from
