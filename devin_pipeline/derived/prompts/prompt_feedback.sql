-- One row per feedback item on a session's prompt.
select
    day,
    session_id,
    ordinal,
    item.issue_id,
    item.summary,
    item.excerpt,
    item.details
from (
    select
        day,
        session_id,
        unnest(range(len(analysis.suggested_prompt.feedback_items)))::integer as ordinal,
        analysis.suggested_prompt.feedback_items[ordinal + 1] as item
    from _latest_analyses
) as items
where item is not null
order by day, session_id, ordinal
