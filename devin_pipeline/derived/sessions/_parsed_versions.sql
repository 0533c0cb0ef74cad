-- One row per feed and session: its latest version, parsed. A value of another type than promised is read as the
-- promised one where it can be, else null: no such value costs a session.
with
parsed as (
    select
        *,
        -- Null when it is not JSON at all.
        try(
            from_json(
                payload,
                replace(
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
                        "analysis": ANALYSIS, "session_analysis": ANALYSIS
                    }',
                    'ANALYSIS',
                    '{
                        "issues": [
                            {
                                "id": "VARCHAR", "issue_id": "VARCHAR", "issue": "VARCHAR", "impact": "VARCHAR",
                                "label": "VARCHAR"
                            }
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
                )
            )
        ) as item
    from _versions_to_parse
),

with_analysis as (
    select
        * exclude (item),
        unnest(item), -- noqa: AL03
        feed = 'raw_session_insights_v2' as is_v2,
        case when is_v2 then item.session_analysis else item.analysis end as sent_analysis,
        item is not null as is_json,
        -- NaN and Infinity are read though JSON does not have them. Mostly they are words of a prompt.
        case
            when contains(payload, 'NaN') or contains(payload, 'Infinity')
                then regexp_matches(payload, '[:\[,]\s*-?(NaN|Infinity)\s*[,\]}]')
            else false
        end as may_have_constants
    from parsed
)

select
    * exclude (payload, analysis, session_analysis, is_v2, sent_analysis),
    sent_analysis as analysis,
    case
        when feed = 'raw_sessions_v3' then null
        when sent_analysis is null then false
        when
            sent_analysis.issues is not null
            or sent_analysis.action_items is not null
            or sent_analysis.timeline is not null
            or sent_analysis.suggested_prompt is not null
            then true
        -- An empty one, one of nothing we know, or no object.
        else coalesce(
            json_extract(payload, case when is_v2 then '$.session_analysis' else '$.analysis' end)::varchar like '{_%}',
            false
        )
    end as has_analysis
from with_analysis
