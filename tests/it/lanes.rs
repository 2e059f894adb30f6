//! Big queries run on threads of their own.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use tokio::runtime::{Builder, Runtime};
use toplake::statement::{Lanes, Session};

use crate::harness::{Home, rows};

/// The name of the thread that computes it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ThreadName(Signature);

impl ScalarUDFImpl for ThreadName {
    fn name(&self) -> &str {
        "thread_name"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(name))))
    }
}

fn threads(name: &str) -> Runtime {
    Builder::new_multi_thread().worker_threads(1).thread_name(name).enable_all().build().unwrap()
}

#[test]
fn a_query_that_reads_much_runs_apart_from_the_others() {
    let (here, small, big) = (threads("here"), threads("small"), threads("big"));
    here.block_on(async {
        let home = Home::new();
        let desk = home.desk().await;
        // Random digits: they stay as many bytes in the files.
        desk.run(
            "CREATE TABLE much (x DOUBLE); CREATE TABLE little (x DOUBLE);
             INSERT INTO much SELECT random() FROM generate_series(1, 3000000);
             INSERT INTO little SELECT random() FROM generate_series(1, 1000)",
        )
        .await;
        let lanes = Lanes { small: small.handle().clone(), big: big.handle().clone() };
        let session = Session::new(desk.engine.context(), Arc::clone(desk.engine.warehouse())).on(lanes);
        let name = ScalarUDF::new_from_impl(ThreadName(Signature::nullary(Volatility::Volatile)));
        session.context().register_udf(name);
        for (table, thread) in [("little", "small"), ("much", "big")] {
            let sql = format!("SELECT DISTINCT thread_name() FROM (SELECT x FROM {table} WHERE x < 2)");
            assert_eq!(rows(&session.sql(&sql).await.unwrap()), [thread], "{table}");
        }
    });
    small.shutdown_background();
    big.shutdown_background();
}

#[test]
fn a_join_gives_way_to_others() {
    let alone = Builder::new_current_thread().enable_all().build().unwrap();
    alone.block_on(async {
        let home = Home::new();
        let desk = home.desk().await;
        // Far more pairs than a machine looks at in the time of a test; the second gives no row for any of them.
        for sql in [
            "SELECT sum(x * y) FROM generate_series(1, 20000) a(x), generate_series(1, 20000) b(y)",
            "SELECT count(*) FROM generate_series(1, 20000) a(x), generate_series(1, 20000) b(y) WHERE x + y < 0",
        ] {
            let desk = desk.clone();
            let query = tokio::spawn(async move { desk.run(sql).await });
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            assert!(!query.is_finished(), "{sql}");
            query.abort();
            assert!(query.await.unwrap_err().is_cancelled());
        }
    });
}
