-- One row per user or service user and time span in which what is known of them stayed the same.
with
versions as (
    select
        kind,
        object_id as user_id,
        fetched_at,
        is_listed_now,
        -- A tombstone has none of these.
        {
            'is_listed': is_listed,
            'name': payload ->> '$.name',
            'email': payload ->> '$.email',
            'idp_groups': case
                when json_type(payload, '$.idp_role_assignments') = 'ARRAY'
                    then list_sort(list_distinct(payload ->> '$.idp_role_assignments[*].idp_group_name'))
            end
        } as entry
    from _directory_versions
    where kind in ('users', 'idp_users', 'service_users')
),

-- Lists of one run may have been read in one instant.
instants as (
    select
        user_id,
        fetched_at,
        -- guard: users: listed while any list has them | bool_or -> bool_and
        bool_or(bool_or(is_listed_now)) over (partition by user_id) as is_listed_now,
        any_value(entry) filter (where kind = 'users') as of_users,
        any_value(entry) filter (where kind = 'idp_users') as of_idp_users,
        any_value(entry) filter (where kind = 'service_users') as of_service_users
    from versions
    group by user_id, fetched_at
),

-- What each list said last.
lists as (
    select
        user_id,
        fetched_at,
        is_listed_now,
        last_value(of_users ignore nulls) over until_then as of_users,
        last_value(of_idp_users ignore nulls) over until_then as of_idp_users,
        last_value(of_service_users ignore nulls) over until_then as of_service_users
    from instants
    window until_then as (partition by user_id order by fetched_at)
),

columns_shown as (
    select
        *,
        coalesce(of_users.is_listed, false) as is_in_users,
        coalesce(of_idp_users.is_listed, false) as is_in_idp_users,
        -- guard: users: the list of users comes first
        --   | of_users.email, of_idp_users.email -> of_idp_users.email, of_users.email
        coalesce(of_users.email, of_idp_users.email) as email,
        coalesce(of_users.name, of_idp_users.name, of_service_users.name) as name,
        case when is_in_users or is_in_idp_users then 'user' else 'service_user' end as kind,
        case
            when not is_in_users and not is_in_idp_users then []
            -- guard: users: groups of a list that was never read | null::varchar[] -> []
            when 'idp_users' not in (select _kinds_read.kind from _kinds_read) then null::varchar[]
            when is_in_idp_users then of_idp_users.idp_groups
            else []
        end as idp_groups
    from lists
),

-- Whom no list has any more stays as last known.
states as (
    select
        *,
        row(email, name, idp_groups, kind) as shown
    from columns_shown
    where is_in_users or is_in_idp_users or of_service_users.is_listed
),

changes as (
    select *
    from states
    qualify shown is distinct from lag(shown) over (partition by user_id order by fetched_at)
)

select
    user_id,
    fetched_at as valid_from,
    email,
    name,
    idp_groups,
    kind,
    lead(fetched_at) over (partition by user_id order by fetched_at) as valid_to,
    valid_to is null as is_current,
    valid_to is not null or is_listed_now as is_listed
from changes
order by user_id, valid_from
