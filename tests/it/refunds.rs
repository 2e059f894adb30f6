//! Refunds and disputes years later, with the pack for sales: at their own time, or at their sale's; events there or
//! expired.

use toplake::lake::action::CommitKind;
use toplake::lake::committer::Change;
use toplake::lake::snapshot::EXPIRED_THROUGH;

use crate::harness::{Desk, Home};

const ROLLUPS: [&str; 5] = ["sales_hourly", "sales_daily", "sales_weekly", "sales_monthly", "sales_yearly"];

async fn desk(home: &Home) -> Desk {
    let desk = home.desk().await;
    for file in ["schema.sql", "rollups.sql"] {
        let pack = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/sales");
        desk.run(&std::fs::read_to_string(format!("{pack}/{file}")).unwrap()).await;
    }
    desk.run("INSERT INTO sales VALUES (1, '2024-03-05 10:20:00', '2024-03-05 10:20:00', 'A', 3, 10.50, 'c', 'KR')").await;
    fold(&desk).await;
    desk.run("INSERT INTO sales VALUES (2, '2026-06-01 08:00:00', '2026-06-01 08:00:00', 'A', 5, 12.00, 'd', 'KR')").await;
    fold(&desk).await;
    desk
}

async fn fold(desk: &Desk) {
    for rollup in ROLLUPS {
        desk.run(&format!("REFRESH MATERIALIZED VIEW {rollup}")).await;
    }
}

/// What retention does: the events of before 2026 leave, and the table says so.
async fn expire(desk: &Desk) {
    let sales = desk.table("sales").await;
    let snapshot = sales.snapshot();
    let cut = 1_767_225_600_000_000; // 2026-01-01
    let mut change = Change::new(CommitKind::Expire, "EXPIRE", &snapshot);
    let old = |file: &&std::sync::Arc<toplake::lake::snapshot::File>| {
        file.stats(&snapshot.schema).time_bounds("event_time").unwrap().1 < cut
    };
    change.removes = snapshot.files.values().filter(old).cloned().collect();
    assert_eq!(change.removes.len(), 1);
    let mut metadata = snapshot.metadata.as_ref().clone();
    metadata.configuration.insert(EXPIRED_THROUGH.to_owned(), cut.to_string());
    change.metadata = Some(metadata);
    sales.commit(&change).await.unwrap();
}

async fn assert_months_and_years(desk: &Desk, months: &[&str], years: &[&str], when: &str) {
    for (rollup, wanted) in [("sales_monthly", months), ("sales_yearly", years)] {
        let found = desk.rows(&format!("SELECT bucket, quantity, revenue, events FROM {rollup}")).await;
        assert_eq!(found, wanted, "{rollup} {when}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_counts_at_its_own_time_or_at_its_sales_whether_events_are_kept_or_not() {
    for expired in [false, true] {
        let home = Home::new();
        let desk = desk(&home).await;
        if expired {
            expire(&desk).await;
        }
        // At its own time: the month of the sale stays closed.
        desk.run(
            "INSERT INTO sales VALUES (3, '2026-06-02 09:00:00', '2026-06-02 09:00:00', 'A', -1, 10.50, 'c', 'KR')",
        )
        .await;
        let months = ["2024-03-01T00:00:00,3,31.5000,1", "2026-06-01T00:00:00,4,49.5000,2"];
        let years = ["2024-01-01T00:00:00,3,31.5000,1", "2026-01-01T00:00:00,4,49.5000,2"];
        assert_months_and_years(&desk, &months, &years, "before it is folded").await;
        fold(&desk).await;
        assert_months_and_years(&desk, &months, &years, "when it is folded").await;
        // At its sale's: the sale is as if it had been smaller.
        desk.run(
            "INSERT INTO sales VALUES (4, '2024-03-05 10:20:00', '2026-06-02 09:05:00', 'A', -1, 10.50, 'c', 'KR')",
        )
        .await;
        let months = ["2024-03-01T00:00:00,2,21.0000,2", "2026-06-01T00:00:00,4,49.5000,2"];
        let years = ["2024-01-01T00:00:00,2,21.0000,2", "2026-01-01T00:00:00,4,49.5000,2"];
        assert_months_and_years(&desk, &months, &years, "before the dispute is folded").await;
        fold(&desk).await;
        assert_months_and_years(&desk, &months, &years, "when the dispute is folded").await;
        assert_eq!(
            desk.rows("SELECT bucket, quantity FROM sales_hourly WHERE bucket < '2025-01-01'").await,
            ["2024-03-05T10:00:00,2"]
        );
        // What was booked when, and for when, stands in the events.
        let booked =
            "SELECT event_id FROM sales WHERE occurred_at >= '2026-06-02' AND event_time < '2026-01-01'";
        assert_eq!(desk.rows(booked).await, ["4"]);
        let since = if expired { "2026-02-01" } else { "-infinity" };
        for rollup in &ROLLUPS[..4] {
            let audit = format!("SELECT * FROM audit('{rollup}', '{since}', 'infinity')");
            assert_eq!(desk.rows(&audit).await, Vec::<String>::new(), "{rollup}, expired: {expired}");
        }
    }
}
