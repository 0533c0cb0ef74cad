-- One row per feed and session: its latest version, parsed. A value of another type than promised is read as the
-- promised one where it can be, else null: no such value costs a session.
with
parsed as (
    select
        latest_versions.* exclude (payload),
        from_json(
            coalesce(mended_payloads.payload, latest_versions.payload),
            '{
                "url": "VARCHAR", "org_id": "VARCHAR", "user_id": "VARCHAR", "service_user_id": "VARCHAR",
                "title": "VARCHAR", "tags": ["VARCHAR"], "child_session_ids": ["VARCHAR"],
                "parent_session_id": "VARCHAR", "status": "VARCHAR", "status_detail": "VARCHAR",
                "origin": "VARCHAR", "category": "VARCHAR", "subcategory": "VARCHAR", "playbook_id": "VARCHAR",
                "is_archived": "BOOLEAN", "session_size": "VARCHAR", "num_user_messages": "INTEGER",
                "num_devin_messages": "INTEGER", "initial_user_message": "VARCHAR", "structured_output": "JSON",
                "pull_requests": [
                    {"url": "VARCHAR", "pr_url": "VARCHAR", "state": "VARCHAR", "pr_state": "VARCHAR"}
                ],
                "analysis": "JSON", "session_analysis": "JSON"
            }'
        ) as item
    from latest_versions
    left join mended_payloads using (feed, session_id)
),

with_analysis_text as (
    select
        * exclude (item),
        unnest(item), -- noqa: AL03
        case when feed = 'raw_session_insights_v2' then item.session_analysis else item.analysis end::varchar
            as analysis_text
    from parsed
)

select
    * exclude (analysis, session_analysis, analysis_text),
    case
        when feed = 'raw_sessions_v3' then null
        else coalesce(analysis_text like '{%' and analysis_text <> '{}', false)
    end as has_analysis,
    from_json(
        analysis_text,
        '{
            "issues": [
                {"id": "VARCHAR", "issue_id": "VARCHAR", "issue": "VARCHAR", "impact": "VARCHAR", "label": "VARCHAR"}
            ],
            "action_items": [{"issue_id": "VARCHAR", "type": "VARCHAR", "action_item": "VARCHAR"}],
            "timeline": [
                {"title": "VARCHAR", "description": "VARCHAR", "color": "VARCHAR", "issue_id": "VARCHAR"}
            ],
            "suggested_prompt": {
                "original_prompt": "VARCHAR", "suggested_prompt": "VARCHAR",
                "feedback_items": [
                    {"issue_id": "VARCHAR", "summary": "VARCHAR", "excerpt": "VARCHAR", "details": "VARCHAR"}
                ]
            }
        }'
    ) as analysis
from with_analysis_text
