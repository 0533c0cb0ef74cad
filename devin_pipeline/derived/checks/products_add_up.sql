-- On closed days, the products of each bill add up to it.
select
    day,
    scope,
    count(*) as bills,
    sum(acus) as acus_without_product
from consumption_daily
where product = '(unsplit)' and day < $first_open_day
group by day, scope
order by day, scope
