-- The rows of `reconciliation_daily`, with the names that their ids had at the end of the day.
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

dated as (
    select
        *,
        epoch_us(day) + (24 + $hour) * 3600000000 as day_ends_at
    from reconciliation_daily
)

select
    dated.* exclude (day_ends_at),
    organization_names.name as organization_name
from dated
left join organization_names
    on
        dated.org_id = organization_names.org_id
        and dated.day_ends_at >= organization_names.begins_at
        and dated.day_ends_at < organization_names.ends_at
