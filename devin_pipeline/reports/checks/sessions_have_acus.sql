-- No day has sessions that all say 0 ACUs while a bill says otherwise: then the source of ACUs is broken.
select
    day,
    max(billed_acus_of_products_with_sessions) as billed_acus
from reconciliation_daily
where
    status = 'source_broken'
    and ($days is null or list_contains($days, day))
group by day
order by day
