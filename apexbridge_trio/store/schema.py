"""The schema, as the steps that led to it: one script for each version ever; only append."""

from typing import Final

MIGRATIONS: Final = (
    """
    CREATE TABLE keys (
        id TEXT PRIMARY KEY,
        hash BLOB NOT NULL,
        name TEXT NOT NULL,
        tenant_id TEXT NOT NULL,
        family_id TEXT,
        scopes TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        revoked_ms INTEGER
    ) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE tasks (
        call_id TEXT PRIMARY KEY,
        plugin TEXT NOT NULL,
        tool TEXT NOT NULL,
        task_id TEXT,
        token_hash BLOB UNIQUE,
        principal_id TEXT NOT NULL,
        tenant_id TEXT NOT NULL,
        family_id TEXT,
        state TEXT NOT NULL,
        digest BLOB,
        late INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        expires_ms INTEGER NOT NULL,
        ended_ms INTEGER,
        UNIQUE (plugin, task_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tasks_that_wait ON tasks (expires_ms) WHERE ended_ms IS NULL;
    CREATE INDEX tasks_that_ended ON tasks (ended_ms) WHERE ended_ms IS NOT NULL;

    CREATE TABLE webhooks (
        plugin TEXT NOT NULL,
        id TEXT NOT NULL,
        task_id TEXT NOT NULL,
        seen_ms INTEGER NOT NULL,
        PRIMARY KEY (plugin, id)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE notices (
        id TEXT PRIMARY KEY,
        principal_id TEXT NOT NULL,
        tenant_id TEXT NOT NULL,
        family_id TEXT,
        level TEXT NOT NULL,
        body TEXT NOT NULL,
        created_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE nodes (
        id TEXT PRIMARY KEY,
        tenant_id TEXT NOT NULL,
        family_id TEXT,
        principal_id TEXT NOT NULL,
        name TEXT NOT NULL,
        type TEXT NOT NULL,
        version TEXT NOT NULL,
        capabilities TEXT NOT NULL,
        tools TEXT NOT NULL,
        instance_id TEXT,
        is_draining INTEGER NOT NULL,
        first_seen_ms INTEGER NOT NULL,
        last_seen_ms INTEGER NOT NULL,
        left_ms INTEGER,
        left_reason TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE node_tasks (
        id TEXT PRIMARY KEY,
        tool TEXT NOT NULL,
        capability TEXT,
        wanted_node TEXT,
        node_id TEXT,
        args BLOB NOT NULL,
        priority INTEGER NOT NULL,
        idempotent INTEGER NOT NULL,
        timeout_ms INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        deadline_ms INTEGER NOT NULL,
        request_id TEXT,
        parent_id TEXT,
        token_hash BLOB UNIQUE,
        principal_id TEXT NOT NULL,
        tenant_id TEXT NOT NULL,
        family_id TEXT,
        metadata TEXT NOT NULL,
        state TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        output BLOB,
        error TEXT,
        history TEXT NOT NULL,
        late INTEGER NOT NULL,
        ended_ms INTEGER
    ) STRICT;
    CREATE INDEX node_tasks_that_run ON node_tasks (created_ms) WHERE ended_ms IS NULL;
    CREATE INDEX node_tasks_that_ended ON node_tasks (ended_ms) WHERE ended_ms IS NOT NULL;
    CREATE INDEX node_tasks_by_tenant ON node_tasks (tenant_id, created_ms);
    """,
    """
    ALTER TABLE notices ADD COLUMN kind TEXT NOT NULL DEFAULT 'notification';
    ALTER TABLE notices ADD COLUMN title TEXT NOT NULL DEFAULT '';
    ALTER TABLE notices ADD COLUMN expires_ms INTEGER;
    CREATE INDEX notices_by_tenant ON notices (tenant_id, created_ms);
    """,
    """
    CREATE TABLE reminders (
        id TEXT PRIMARY KEY,
        principal_id TEXT NOT NULL,
        tenant_id TEXT NOT NULL,
        family_id TEXT,
        text TEXT NOT NULL,
        at_ms INTEGER,
        cron TEXT,
        timezone TEXT NOT NULL,
        missed TEXT NOT NULL,
        kind TEXT NOT NULL,
        action TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        next_ms INTEGER,
        last_ms INTEGER,
        fired INTEGER NOT NULL,
        ended_ms INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX reminders_to_come ON reminders (next_ms) WHERE next_ms IS NOT NULL;
    CREATE INDEX reminders_by_tenant ON reminders (tenant_id, created_ms);

    CREATE TABLE reminder_runs (
        id TEXT PRIMARY KEY,
        reminder_id TEXT NOT NULL,
        due_ms INTEGER NOT NULL,
        principal_id TEXT NOT NULL,
        tenant_id TEXT NOT NULL,
        family_id TEXT,
        text TEXT NOT NULL,
        kind TEXT NOT NULL,
        action TEXT NOT NULL,
        is_late INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        at_ms INTEGER NOT NULL,
        action TEXT NOT NULL,
        target TEXT NOT NULL,
        principal_id TEXT NOT NULL,
        tenant_id TEXT,
        family_id TEXT,
        origin TEXT NOT NULL,
        request_id TEXT,
        before TEXT,
        after TEXT
    ) STRICT;
    CREATE TRIGGER audit_is_not_altered BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
    CREATE TRIGGER audit_is_not_removed BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
    -- INSERT OR REPLACE removes a row without asking the trigger above.
    CREATE TRIGGER audit_is_not_replaced BEFORE INSERT ON audit
    WHEN EXISTS (SELECT 1 FROM audit WHERE seq = NEW.seq)
    BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
    """,
    """
    CREATE TABLE firings (
        id TEXT PRIMARY KEY,
        trigger_name TEXT NOT NULL,
        kind TEXT NOT NULL,
        action TEXT NOT NULL,
        principal_id TEXT NOT NULL,
        tenant_id TEXT NOT NULL,
        family_id TEXT,
        created_ms INTEGER NOT NULL,
        next_ms INTEGER NOT NULL,
        attempts INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX firings_to_come ON firings (next_ms);
    """,
    """
    ALTER TABLE keys ADD COLUMN expires_ms INTEGER;
    ALTER TABLE keys ADD COLUMN last_used_ms INTEGER;
    ALTER TABLE keys ADD COLUMN expired_ms INTEGER;
    CREATE INDEX keys_by_time ON keys (created_ms, id);
    CREATE INDEX keys_that_expire ON keys (expires_ms) WHERE expires_ms IS NOT NULL;
    """,
    """
    CREATE TABLE disabled_plugins (
        name TEXT PRIMARY KEY,
        since_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE notices ADD COLUMN acked_ms INTEGER;
    ALTER TABLE notices ADD COLUMN acked_by TEXT;
    CREATE TABLE devices (
        key_id TEXT NOT NULL,
        name TEXT NOT NULL,
        tenant_id TEXT NOT NULL,
        family_id TEXT,
        first_ms INTEGER NOT NULL,
        last_ms INTEGER NOT NULL,
        PRIMARY KEY (key_id, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE notice_acks (
        notice_id TEXT NOT NULL,
        key_id TEXT NOT NULL,
        name TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        PRIMARY KEY (notice_id, key_id, name)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX notice_acks_by_device ON notice_acks (key_id, name);
    CREATE TRIGGER acks_go_with_their_notice AFTER DELETE ON notices
    BEGIN DELETE FROM notice_acks WHERE notice_id = OLD.id; END;
    CREATE TRIGGER acks_go_with_their_device AFTER DELETE ON devices
    BEGIN DELETE FROM notice_acks WHERE key_id = OLD.key_id AND name = OLD.name; END;
    """,
    """
    CREATE TABLE config_revisions (
        number INTEGER PRIMARY KEY,
        digest TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        origin TEXT NOT NULL,
        principal_id TEXT NOT NULL,
        address TEXT NOT NULL,
        changed TEXT NOT NULL,
        diff TEXT NOT NULL,
        text TEXT NOT NULL,
        lost TEXT NOT NULL
    ) STRICT;
    """,
    """
    CREATE INDEX notices_unread ON notices (tenant_id, kind, created_ms) WHERE acked_ms IS NULL;
    """,
    """
    -- A line goes only when a newer one says that all up to its number are let go.
    DROP TRIGGER audit_is_not_removed;
    CREATE INDEX audit_forgotten ON audit (seq) WHERE action = 'audit.forgotten';
    CREATE TRIGGER audit_is_not_removed BEFORE DELETE ON audit
    WHEN NOT EXISTS (
        SELECT 1 FROM audit
        WHERE action = 'audit.forgotten' AND seq > OLD.seq AND CAST(target AS INTEGER) >= OLD.seq
    )
    BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
    -- Nothing comes into the place of what was let go; a new line that names no number has none here yet.
    DROP TRIGGER audit_is_not_replaced;
    CREATE TRIGGER audit_is_not_replaced BEFORE INSERT ON audit
    WHEN NEW.seq > 0 AND NEW.seq <= (SELECT coalesce(max(seq), 0) FROM audit)
    BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
    """,
    """
    CREATE TABLE allowances (
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        used INTEGER NOT NULL,
        until_ms INTEGER NOT NULL,
        PRIMARY KEY (kind, id)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE trigger_holds (
        trigger_name TEXT NOT NULL,
        subject TEXT NOT NULL,
        kind TEXT NOT NULL,
        since_ms INTEGER NOT NULL,
        fired INTEGER NOT NULL,
        PRIMARY KEY (trigger_name, subject)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE triggers_off (
        trigger_name TEXT PRIMARY KEY,
        mark BLOB NOT NULL,
        reason TEXT NOT NULL,
        since_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX firings_by_trigger ON firings (trigger_name);
    -- What some trigger waits for, of what follows.
    CREATE TABLE listened (kind TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
    -- What has happened, is on disk, and was not heard by triggers: in one transaction, whoever writes it.
    CREATE TABLE unheard (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        id TEXT NOT NULL
    ) STRICT;
    CREATE INDEX unheard_by_id ON unheard (kind, id);
    CREATE TRIGGER notices_are_to_be_heard AFTER INSERT ON notices
    WHEN EXISTS (SELECT 1 FROM listened WHERE kind = 'notice')
    BEGIN INSERT INTO unheard (kind, id) VALUES ('notice', NEW.id); END;
    CREATE TRIGGER notices_that_are_gone_are_not_heard AFTER DELETE ON notices
    BEGIN DELETE FROM unheard WHERE kind = 'notice' AND id = OLD.id; END;
    CREATE TRIGGER ends_are_to_be_heard AFTER UPDATE OF ended_ms ON node_tasks
    WHEN OLD.ended_ms IS NULL AND NEW.ended_ms IS NOT NULL
    AND EXISTS (SELECT 1 FROM listened WHERE kind = 'task')
    BEGIN INSERT INTO unheard (kind, id) VALUES ('task', NEW.id); END;
    CREATE TRIGGER tasks_that_never_ran_are_to_be_heard AFTER INSERT ON node_tasks
    WHEN NEW.ended_ms IS NOT NULL AND EXISTS (SELECT 1 FROM listened WHERE kind = 'task')
    BEGIN INSERT INTO unheard (kind, id) VALUES ('task', NEW.id); END;
    CREATE TRIGGER tasks_that_are_gone_are_not_heard AFTER DELETE ON node_tasks
    BEGIN DELETE FROM unheard WHERE kind = 'task' AND id = OLD.id; END;
    """,
    """
    -- What nodes have used of a day is counted by the key that opens their connections, not by their names.
    INSERT INTO allowances
    SELECT 'nodes', nodes.principal_id, CAST(min(total(used), 9007199254740992) AS INTEGER), max(until_ms)
    FROM allowances JOIN nodes ON nodes.id = allowances.id WHERE kind = 'node' GROUP BY nodes.principal_id;
    DELETE FROM allowances WHERE kind = 'node';
    """,
)

# The version this hub knows.
NEWEST: Final = len(MIGRATIONS)
