-- The rows of `acu_daily`, with the names that their ids had at the end of the day.
--
-- Each row meets one row of its id at most: their spans do not overlap.
with
organization_names as (
    select
        org_id,
        name,
        -- Before its first row, the first one holds. In microseconds: a reader's time zone would move a day.
        case when lag(valid_from) over seen is null then 0 else epoch_us(valid_from) end as begins_at,
        coalesce(lead(epoch_us(valid_from)) over seen, 9223372036854775807) as ends_at
    from organizations
    window seen as (partition by org_id order by valid_from)
),

user_names as (
    select
        user_id,
        name,
        email,
        case when lag(valid_from) over seen is null then 0 else epoch_us(valid_from) end as begins_at,
        coalesce(lead(epoch_us(valid_from)) over seen, 9223372036854775807) as ends_at
    from users
    window seen as (partition by user_id order by valid_from)
),

playbook_titles as (
    select
        playbook_id,
        title,
        case when lag(valid_from) over seen is null then 0 else epoch_us(valid_from) end as begins_at,
        coalesce(lead(epoch_us(valid_from)) over seen, 9223372036854775807) as ends_at
    from playbooks
    window seen as (partition by playbook_id order by valid_from)
),

dated as (
    select
        *,
        epoch_us(day) + (24 + $hour) * 3600000000 as day_ends_at
    from acu_daily
)

select
    dated.* exclude (day_ends_at),
    organization_names.name as organization_name,
    user_names.name as user_name,
    user_names.email as user_email,
    service_user_names.name as service_user_name,
    playbook_titles.title as playbook_title
from dated
left join organization_names
    on
        dated.org_id = organization_names.org_id
        and dated.day_ends_at >= organization_names.begins_at
        and dated.day_ends_at < organization_names.ends_at
left join user_names
    on
        dated.user_id = user_names.user_id
        and dated.day_ends_at >= user_names.begins_at
        and dated.day_ends_at < user_names.ends_at
left join user_names as service_user_names
    on
        dated.service_user_id = service_user_names.user_id
        and dated.day_ends_at >= service_user_names.begins_at
        and dated.day_ends_at < service_user_names.ends_at
left join playbook_titles
    on
        dated.playbook_id = playbook_titles.playbook_id
        and dated.day_ends_at >= playbook_titles.begins_at
        and dated.day_ends_at < playbook_titles.ends_at
