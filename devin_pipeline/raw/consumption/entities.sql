-- One row per organization, user and service user that is known: of the lists, of sessions, of the bill.
--
-- `is_active` says that it had a session, or something on its bill, since $since. Only what is listed counts of a list.
-- What is listed comes first: a kind that is refused as a whole shows in the first of its answers, and one that was
-- deleted is refused too.
with
lists as (
    select
        kind,
        object_id
    from raw_directory
    where kind in ('organizations', 'users', 'idp_users', 'service_users')
    qualify
        row_number() over (partition by kind, object_id order by fetched_at desc) = 1
        and is_listed
),

of_sessions as (
    select
        org_id,
        user_id,
        service_user_id,
        bool_or(day >= $since or updated_at >= $since) as is_active
    from sessions
    group by org_id, user_id, service_user_id
),

known as (
    select
        case kind when 'organizations' then 'organization' when 'service_users' then 'service_user' else 'user' end
            as scope,
        object_id as scope_id,
        false as is_active,
        true as is_listed
    from lists
    union all
    select
        'organization' as scope,
        org_id as scope_id,
        is_active,
        false as is_listed
    from of_sessions
    union all
    select
        'user' as scope,
        user_id as scope_id,
        is_active,
        false as is_listed
    from of_sessions
    union all
    select
        'service_user' as scope,
        service_user_id as scope_id,
        is_active,
        false as is_listed
    from of_sessions
    union all
    select
        scope,
        scope_id,
        acus > 0 as is_active,
        false as is_listed
    from raw_consumption
    where day >= $since and scope <> 'enterprise'
)

select
    scope,
    scope_id,
    coalesce(bool_or(is_active), false) as is_active
from known
where scope_id is not null
group by scope, scope_id
order by scope asc, bool_or(is_listed) desc, scope_id asc
