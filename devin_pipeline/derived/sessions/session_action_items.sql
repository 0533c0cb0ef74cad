-- One row per action item in a session's analysis.
select
    day,
    session_id,
    ordinal,
    item.issue_id,
    item.type,
    item.action_item
from (
    select
        day,
        session_id,
        unnest(range(len(analysis.action_items)))::integer as ordinal,
        analysis.action_items[ordinal + 1] as item
    from _latest_analyses
) as items
where item is not null
order by day, session_id, ordinal
