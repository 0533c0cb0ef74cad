-- On closed days, the bills of organizations, and those of people, are no more than that of the enterprise.
with
billed as (
    select
        day,
        case when scope in ('user', 'service_user') then 'people' else scope end as of_whom,
        sum(acus) as acus
    from consumption_daily
    where day < $first_open_day
    group by day, of_whom
)

select
    parts.day,
    parts.of_whom,
    parts.acus,
    whole.acus as acus_of_enterprise
from billed as parts
inner join billed as whole on parts.day = whole.day and whole.of_whom = 'enterprise'
where
    parts.of_whom <> 'enterprise'
    -- guard: organizations billed more than the enterprise | parts.acus > whole.acus + 0.000001 -> false
    and parts.acus > whole.acus + 0.000001
order by parts.day, parts.of_whom
