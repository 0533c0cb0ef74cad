-- One row per session whose analysis suggests a better prompt.
select
    day,
    session_id,
    analysis.suggested_prompt.original_prompt,
    analysis.suggested_prompt.suggested_prompt,
    coalesce(len([item for item in analysis.suggested_prompt.feedback_items if item is not null]), 0)::integer
        as feedback_items
from told_analyses
where
    coalesce(
        analysis.suggested_prompt.original_prompt,
        analysis.suggested_prompt.suggested_prompt,
        analysis.suggested_prompt.feedback_items::varchar
    ) is not null
order by day, session_id
