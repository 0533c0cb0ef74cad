-- No item had to be put aside because its id, creation time or ACUs were unusable.
select
    day,
    reason,
    count(*) as items
from raw_quarantine
where feed = $feed
group by day, reason
order by day, reason
