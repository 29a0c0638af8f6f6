//! DuckDB's second C interface, as far as the statements of sessions need it.
//!
//! A statement runs here without being prepared before. Rows of a prepared one that keep their order are made by
//! one thread in DuckDB 2.0, however many there are; those that come from here are made by all of them, which turn
//! them into Arrow, too (`docs/decisions/0015`).

use std::cell::Cell;
use std::ffi::CString;
use std::marker::PhantomData;
use std::ptr::{null, null_mut};
use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, StructArray};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi};
use arrow::record_batch::RecordBatch;
use duckdb::types::{TimeUnit, Value};
use libduckdb_sys::v2 as ffi;

use super::Failure;

/// What kind of type a column has.
pub(crate) use ffi::DUCKDB_V2_LOGICAL_TYPE_ID as TypeId;

type Done<T> = Result<T, Failure>;
type Code = ffi::DUCKDB_V2_ERROR;
type Told = *mut ffi::duckdb_v2_error_info_handle;

/// The rows that the engine computes at once.
pub(crate) const VECTOR: u32 = 2048;
/// How deep a nested type is looked into.
pub(crate) const DEPTH_SEEN: usize = 128;

fn failure(text: impl std::fmt::Display) -> Failure {
    Failure(format!("Invalid Input Error: {text}"))
}

/// Text that the engine lends.
///
/// # Safety
/// It has to be there still.
unsafe fn lent(text: ffi::duckdb_v2_str) -> String {
    if text.ptr.is_null() {
        return String::new();
    }
    let length = usize::try_from(text.len).unwrap_or(0);
    // SAFETY: the engine says that so many bytes are there.
    let bytes = unsafe { std::slice::from_raw_parts(text.ptr.cast::<u8>(), length) };
    String::from_utf8_lossy(bytes).into_owned()
}

/// Calls the engine, and says what it says when it fails.
fn call(what: impl FnOnce(Told) -> Code) -> Done<()> {
    let mut info = null_mut();
    let code = what(&raw mut info);
    if code == Code::DUCKDB_V2_ERROR_NONE {
        return Ok(());
    }
    let mut text = ffi::duckdb_v2_str::default();
    // SAFETY: what an error says is there until it goes.
    let said = unsafe {
        if !info.is_null() {
            ffi::duckdb_v2_error_info_get_text(info, &raw mut text);
        }
        let said = lent(text);
        ffi::duckdb_v2_error_info_destroy(&raw mut info);
        said
    };
    Err(match said.is_empty() {
        true => Failure(format!("INTERNAL Error: {code:?}")),
        false => Failure(said),
    })
}

/// Something of the engine's that goes with this.
struct Owned<H> {
    handle: *mut H,
    destroy: unsafe extern "C" fn(*mut *mut H) -> Code,
}

impl<H> Owned<H> {
    fn new(
        destroy: unsafe extern "C" fn(*mut *mut H) -> Code,
        make: impl FnOnce(*mut *mut H, Told) -> Code,
    ) -> Done<Self> {
        let mut handle = null_mut();
        call(|told| make(&raw mut handle, told))?;
        Ok(Owned { handle, destroy })
    }
}

impl<H> Drop for Owned<H> {
    fn drop(&mut self) {
        // SAFETY: it was made by the engine, and goes once.
        unsafe { (self.destroy)(&raw mut self.handle) };
    }
}

/// An instance. It goes with the last of its connections.
struct Instance {
    instance: Owned<ffi::_duckdb_v2_instance>,
    /// What outlives it. Each has its own: those of one environment know each other's files.
    _environment: Owned<ffi::_duckdb_v2_environment>,
}

/// A connection, as long as anybody may interrupt it.
struct Link {
    connection: Owned<ffi::_duckdb_v2_connection>,
    instance: Arc<Instance>,
}

// SAFETY: the engine lets an instance be used by all threads.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}
// SAFETY: a connection may go from thread to thread.
unsafe impl Send for Link {}
// SAFETY: of what many threads do at once there is only the interrupt, which the engine allows; for everything
// else there is one `Connection`, which isn't shared.
unsafe impl Sync for Link {}

/// A connection to an instance in memory.
pub(crate) struct Connection {
    link: Arc<Link>,
    /// It is one thread's at a time.
    _alone: PhantomData<Cell<()>>,
}

impl Connection {
    /// Opens an instance with settings of these names.
    pub(crate) fn open(settings: &[(&str, &str)]) -> Done<Connection> {
        let names: Vec<_> =
            settings.iter().map(|(name, _)| ffi::duckdb_v2_str::from(*name)).collect();
        let values: Vec<_> =
            settings.iter().map(|(_, value)| ffi::duckdb_v2_str::from(*value)).collect();
        let memory = ffi::duckdb_v2_str::from(":memory:");
        // SAFETY: all that is passed lives until the calls return.
        let instance = unsafe {
            let environment = Owned::new(ffi::duckdb_v2_environment_destroy, |out, told| {
                ffi::duckdb_v2_environment_create(out, told)
            })?;
            let instance = Owned::new(ffi::duckdb_v2_instance_destroy, |out, told| {
                ffi::duckdb_v2_instance_create_with_options(
                    environment.handle,
                    names.as_ptr(),
                    values.as_ptr(),
                    settings.len() as u64,
                    out,
                    told,
                )
            })?;
            call(|told| {
                let (name, options) = (null(), null_mut());
                let path = &raw const memory;
                ffi::duckdb_v2_instance_attach(instance.handle, name, path, options, true, told)
            })?;
            Instance { instance, _environment: environment }
        };
        Connection::to(Arc::new(instance))
    }

    fn to(instance: Arc<Instance>) -> Done<Connection> {
        // SAFETY: the instance outlives its connections.
        let connection = Owned::new(ffi::duckdb_v2_connection_destroy, |out, told| unsafe {
            ffi::duckdb_v2_connection_create(instance.instance.handle, out, told)
        })?;
        let link = Arc::new(Link { connection, instance });
        Ok(Connection { link, _alone: PhantomData })
    }

    /// Another one to the same instance.
    pub(crate) fn try_clone(&self) -> Done<Connection> {
        Connection::to(self.link.instance.clone())
    }

    /// Ends what runs in it, from whatever thread.
    pub(crate) fn interrupt(&self) -> Arc<dyn Fn() + Send + Sync> {
        let link = self.link.clone();
        Arc::new(move || {
            // SAFETY: any thread may do this while the connection is there.
            let _ = call(|told| unsafe {
                ffi::duckdb_v2_connection_interrupt(link.connection.handle, told)
            });
        })
    }

    fn handle(&self) -> ffi::duckdb_v2_connection_handle {
        self.link.connection.handle
    }

    /// The statements of a text.
    fn parse(&self, text: &str) -> Done<Vec<Parsed>> {
        let text = CString::new(text).map_err(|_| failure("the statement has a NUL character"))?;
        // SAFETY: the text lives until it has been read.
        let parsed = Owned::new(ffi::duckdb_v2_statement_iterator_destroy, |out, told| unsafe {
            ffi::duckdb_v2_parse_sql(self.handle(), text.as_ptr(), out, told)
        })?;
        let mut statements = Vec::new();
        loop {
            // SAFETY: what comes is ours.
            let next = Owned::new(ffi::duckdb_v2_sql_statement_destroy, |out, told| unsafe {
                ffi::duckdb_v2_statement_iterator_next(parsed.handle, out, told)
            })?;
            match next.handle.is_null() {
                true => return Ok(statements),
                false => statements.push(next),
            }
        }
    }

    /// Runs statements that give nothing.
    pub(crate) fn execute_batch(&self, text: &str) -> Done<()> {
        for statement in self.parse(text)? {
            let result = self.run(&statement, &[], &[], VECTOR)?;
            let mut changed = 0;
            // SAFETY: the result is there.
            call(|told| unsafe {
                ffi::duckdb_v2_arrow_result_drain(result.handle, &raw mut changed, told)
            })?;
        }
        Ok(())
    }

    /// Runs a statement with these values, and gives nothing of what it gives.
    pub(crate) fn execute(&self, text: &str, values: &[Value]) -> Done<()> {
        self.statement(text)?.rows(values, VECTOR)?.try_for_each(|rows| rows.map(drop))
    }

    /// The one text that a statement makes of another.
    pub(crate) fn text(&self, statement: &str, text: &str) -> Done<String> {
        let mut rows = self.statement(statement)?.rows(&[text.to_string().into()], 1)?;
        let made = rows.next().transpose()?;
        let made = made.and_then(|rows| {
            let texts = rows.column(0).as_string_opt::<i32>()?;
            (texts.is_valid(0)).then(|| texts.value(0).to_string())
        });
        made.ok_or_else(|| failure("no text came"))
    }

    /// Looks at one statement: what it takes and gives.
    pub(crate) fn statement(&self, text: &str) -> Done<Statement<'_>> {
        let mut statements = self.parse(text)?;
        let parsed = match (statements.pop(), statements.is_empty()) {
            (Some(parsed), true) => parsed,
            (None, _) => return Err(failure("there is no statement")),
            _ => return Err(failure("there is more than one statement")),
        };
        // SAFETY: the statement is there, and what comes is ours.
        let columns = Owned::new(ffi::duckdb_v2_schema_destroy, |out, told| unsafe {
            ffi::duckdb_v2_statement_bind(self.handle(), parsed.handle, out, null_mut(), told)
        })?;
        let mut count = 0;
        // SAFETY: as above.
        call(|told| unsafe {
            ffi::duckdb_v2_schema_get_count(columns.handle, &raw mut count, told)
        })?;
        let columns = (0..count).map(|at| column(columns.handle, at)).collect::<Done<_>>()?;
        let mut count = 0;
        // SAFETY: as above.
        call(|told| unsafe {
            ffi::duckdb_v2_sql_statement_get_parameter_count(parsed.handle, &raw mut count, told)
        })?;
        let parameters = usize::try_from(count).unwrap_or(usize::MAX);
        Ok(Statement { connection: self, parsed, columns, parameters })
    }

    /// Begins a statement.
    fn run(
        &self,
        parsed: &Parsed,
        names: &[ffi::duckdb_v2_str],
        values: &[ffi::duckdb_v2_value_handle],
        rows: u32,
    ) -> Done<Owned<ffi::_duckdb_v2_arrow_result>> {
        let count = values.len() as u64;
        let (names, values) = match count {
            0 => (null(), null()),
            _ => (names.as_ptr(), values.as_ptr()),
        };
        // SAFETY: there are as many names as values, and they live until the call returns.
        Owned::new(ffi::duckdb_v2_arrow_result_destroy, |out, told| unsafe {
            let statement = parsed.handle;
            ffi::duckdb_v2_statement_execute_arrow(
                self.handle(),
                statement,
                names,
                values,
                count,
                rows.max(1).into(),
                out,
                told,
            )
        })
    }

    /// The engine's form of a value.
    fn value(&self, value: &Value) -> Done<Owned<ffi::_duckdb_v2_value>> {
        let mut factory = null_mut();
        // SAFETY: the factory is as long there as the connection; what is passed lives until the calls return.
        unsafe {
            call(|told| {
                ffi::duckdb_v2_connection_get_factory(self.handle(), &raw mut factory, told)
            })?;
            let null_type = match value {
                Value::Null => {
                    Some(Owned::new(ffi::duckdb_v2_logical_type_destroy, |out, told| {
                        let text = ffi::duckdb_v2_str::from("NULL");
                        let text = &raw const text;
                        ffi::duckdb_v2_factory_create_type_from_text(factory, text, out, told)
                    })?)
                }
                _ => None,
            };
            let view = |bytes: &[u8]| ffi::duckdb_v2_str {
                ptr: bytes.as_ptr().cast(),
                len: bytes.len() as u64,
            };
            Owned::new(ffi::duckdb_v2_value_destroy, |out, told| match value {
                Value::Null => {
                    let kind = null_type.as_ref().map_or(null_mut(), |kind| kind.handle);
                    ffi::duckdb_v2_value_create_null(factory, kind, out, told)
                }
                Value::Boolean(value) => {
                    ffi::duckdb_v2_value_create_bool(factory, *value, out, told)
                }
                Value::BigInt(value) => {
                    ffi::duckdb_v2_value_create_bigint(factory, *value, out, told)
                }
                Value::Double(value) => {
                    ffi::duckdb_v2_value_create_double(factory, *value, out, told)
                }
                Value::Text(text) => {
                    let text = view(text.as_bytes());
                    ffi::duckdb_v2_value_create_varchar(factory, &raw const text, out, told)
                }
                Value::Blob(bytes) => {
                    let bytes = view(bytes);
                    ffi::duckdb_v2_value_create_blob(factory, &raw const bytes, out, told)
                }
                Value::Timestamp(TimeUnit::Microsecond, micros) => {
                    ffi::duckdb_v2_value_create_timestamp(factory, *micros, out, told)
                }
                _ => Code::DUCKDB_V2_ERROR_API,
            })
        }
    }
}

type Parsed = Owned<ffi::_duckdb_v2_sql_statement>;

/// One of a statement's columns.
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Type,
}

/// A type, and those inside of it down to [`DEPTH_SEEN`] levels.
pub(crate) struct Type {
    pub(crate) id: TypeId,
    /// Its alias where it has one, as JSON has.
    pub(crate) name: String,
    pub(crate) inside: Vec<Type>,
}

fn column(columns: ffi::duckdb_v2_schema_handle, at: u64) -> Done<Column> {
    let (mut name, mut kind) = (ffi::duckdb_v2_str::default(), null_mut());
    // SAFETY: name and type are there as long as the columns.
    unsafe {
        call(|told| {
            ffi::duckdb_v2_schema_get_field(columns, at, &raw mut name, &raw mut kind, told)
        })?;
        Ok(Column { name: lent(name), kind: type_of(kind, DEPTH_SEEN)? })
    }
}

/// # Safety
/// The type has to be there.
unsafe fn type_of(kind: ffi::duckdb_v2_logical_type_handle, depth: usize) -> Done<Type> {
    let (mut id, mut name) =
        (TypeId::DUCKDB_V2_LOGICAL_TYPE_ID_INVALID, ffi::duckdb_v2_str::default());
    let mut count = 0;
    // SAFETY: as above; the name is as long there as the type.
    let name = unsafe {
        call(|told| ffi::duckdb_v2_logical_type_get_id(kind, &raw mut id, told))?;
        call(|told| ffi::duckdb_v2_logical_type_get_name(kind, &raw mut name, told))?;
        call(|told| ffi::duckdb_v2_logical_type_get_param_count(kind, &raw mut count, told))?;
        lent(name)
    };
    let types = match id {
        TypeId::DUCKDB_V2_LOGICAL_TYPE_ID_STRUCT
        | TypeId::DUCKDB_V2_LOGICAL_TYPE_ID_TUPLE
        | TypeId::DUCKDB_V2_LOGICAL_TYPE_ID_UNION
        | TypeId::DUCKDB_V2_LOGICAL_TYPE_ID_LIST
        | TypeId::DUCKDB_V2_LOGICAL_TYPE_ID_MAP => count,
        // The second one is its length.
        TypeId::DUCKDB_V2_LOGICAL_TYPE_ID_ARRAY => 1,
        _ => 0,
    };
    let inner = |at| {
        let mut name = ffi::duckdb_v2_str::default();
        // SAFETY: as above; value and type are ours.
        unsafe {
            let value = Owned::new(ffi::duckdb_v2_value_destroy, |out, told| {
                ffi::duckdb_v2_logical_type_get_param(kind, at, &raw mut name, out, told)
            })?;
            let inner = Owned::new(ffi::duckdb_v2_logical_type_destroy, |out, told| {
                ffi::duckdb_v2_value_get_type(value.handle, out, told)
            })?;
            type_of(inner.handle, depth.saturating_sub(1))
        }
    };
    let inside =
        if depth == 0 { Vec::new() } else { (0..types).map(inner).collect::<Done<_>>()? };
    Ok(Type { id, name, inside })
}

/// A statement that hasn't run yet.
pub(crate) struct Statement<'c> {
    connection: &'c Connection,
    parsed: Parsed,
    columns: Vec<Column>,
    parameters: usize,
}

impl Statement<'_> {
    /// How many values it takes.
    pub(crate) fn parameters(&self) -> usize {
        self.parameters
    }

    /// What it gives.
    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Runs it with a value for each parameter, in order. Its rows come in batches of at most so many.
    pub(crate) fn rows(&self, values: &[Value], most: u32) -> Done<Rows> {
        let values =
            values.iter().map(|value| self.connection.value(value)).collect::<Done<Vec<_>>>()?;
        let names = (0..values.len() as u64).map(|at| {
            let mut name = ffi::duckdb_v2_str::default();
            // SAFETY: the name is there as long as the statement.
            call(|told| unsafe {
                let statement = self.parsed.handle;
                ffi::duckdb_v2_sql_statement_get_parameter_name(statement, at, &raw mut name, told)
            })?;
            Ok(name)
        });
        let names = names.collect::<Done<Vec<_>>>()?;
        let handles: Vec<_> = values.iter().map(|value| value.handle).collect();
        let result = self.connection.run(&self.parsed, &names, &handles, most)?;
        let mut columns = FFI_ArrowSchema::empty();
        // SAFETY: both crates have the layout of Arrow's C interface.
        call(|told| unsafe {
            let out = (&raw mut columns).cast::<ffi::ArrowSchema>();
            ffi::duckdb_v2_arrow_result_get_schema(result.handle, out, told)
        })?;
        let schema = Schema::try_from(&columns).map_err(failure)?;
        let link = self.connection.link.clone();
        Ok(Rows { result, columns, schema: Arc::new(schema), _link: link })
    }
}

/// The rows of a statement, as they come.
pub(crate) struct Rows {
    result: Owned<ffi::_duckdb_v2_arrow_result>,
    columns: FFI_ArrowSchema,
    schema: SchemaRef,
    _link: Arc<Link>,
}

impl Rows {
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

impl Iterator for Rows {
    type Item = Done<RecordBatch>;

    /// After an error it is the same one again.
    fn next(&mut self) -> Option<Done<RecordBatch>> {
        let mut rows = FFI_ArrowArray::empty();
        // SAFETY: both crates have the layout of Arrow's C interface.
        let told = call(|told| unsafe {
            let out = (&raw mut rows).cast::<ffi::ArrowArray>();
            ffi::duckdb_v2_arrow_result_fetch_array(self.result.handle, out, told)
        });
        match told {
            Err(failure) => Some(Err(failure)),
            Ok(()) if rows.is_released() => None,
            // SAFETY: the engine says that these rows are of those columns.
            Ok(()) => Some(
                unsafe { from_ffi(rows, &self.columns) }
                    .map(|data| RecordBatch::from(StructArray::from(data)))
                    .map_err(failure),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Int64Type;

    use super::*;

    fn open() -> Connection {
        Connection::open(&[("threads", "2"), ("async_threads", "1")]).unwrap()
    }

    fn all(
        connection: &Connection,
        text: &str,
        values: &[Value],
        most: u32,
    ) -> Done<Vec<RecordBatch>> {
        connection.statement(text)?.rows(values, most)?.collect()
    }

    #[test]
    fn rows_keep_their_order_whoever_makes_them() {
        let connection = open();
        connection.execute_batch("CREATE TABLE t AS SELECT i FROM range(1_000_000) t(i)").unwrap();
        for most in [2048, 16_384, 1_000_000] {
            let batches = all(&connection, "SELECT i FROM t WHERE i % 3 <> 1", &[], most).unwrap();
            assert!(batches.iter().all(|batch| batch.num_rows() <= most as usize));
            let rows: Vec<i64> = batches
                .iter()
                .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
                .collect();
            assert!(rows.iter().copied().eq((0..1_000_000).filter(|i| i % 3 != 1)), "{most}");
        }
    }

    #[test]
    fn a_statement_takes_its_values_by_position_and_by_name() {
        let connection = open();
        let values = [Value::BigInt(7), Value::Text("x".into())];
        for text in ["SELECT $1 || $2", "SELECT ? || ?", "SELECT $first || $second"] {
            let statement = connection.statement(text).unwrap();
            assert_eq!(statement.parameters(), 2, "{text}");
            let rows = all(&connection, text, &values, 1).unwrap();
            assert_eq!(rows[0].column(0).as_string::<i32>().value(0), "7x", "{text}");
        }
        assert!(all(&connection, "SELECT $1 || $2", &values[..1], 1).is_err());
        let failure = all(&connection, "SELECT ?", &[Value::Float(1.0)], 1).err().unwrap();
        assert!(failure.0.starts_with("INTERNAL"), "{failure:?}");
    }

    #[test]
    fn only_one_statement_is_looked_at() {
        let connection = open();
        for (text, says) in [
            ("", "no statement"),
            (" ;; -- none", "no statement"),
            ("SELECT 1; SELECT 2", "more than one"),
            ("SELECT 1\0; SELECT 2", "NUL"),
            ("SELEC 1", "Parser Error"),
            ("SELECT missing", "Binder Error"),
            ("FROM missing", "Catalog Error"),
        ] {
            let failure = connection.statement(text).err().unwrap();
            assert!(failure.0.contains(says), "{text}: {failure:?}");
        }
        assert!(connection.statement("SELECT 1;").is_ok());
    }

    #[test]
    fn an_error_comes_after_the_rows_before_it_and_leaves_the_connection_whole() {
        let connection = open();
        let text =
            "SELECT CASE WHEN i < 100000 THEN i ELSE error('late') END FROM range(200000) t(i)";
        let mut rows = connection.statement(text).unwrap().rows(&[], 2048).unwrap();
        let failure = rows.find_map(Result::err).unwrap();
        assert!(failure.0.contains("late"), "{failure:?}");
        assert!(rows.next().is_some_and(|again| again.is_err()));
        drop(rows);
        assert_eq!(all(&connection, "SELECT 1", &[], 1).unwrap().len(), 1);
    }

    #[test]
    fn whoever_lets_go_of_rows_may_run_the_next_statement() {
        let connection = open();
        let endless = "SELECT i FROM range(1_000_000_000_000) t(i)";
        let mut rows = connection.statement(endless).unwrap().rows(&[], 2048).unwrap();
        assert!(rows.next().unwrap().is_ok());
        let busy = connection.execute_batch("SELECT 1").unwrap_err();
        assert!(busy.0.starts_with("Resource In Use"), "{busy:?}");
        drop(rows);
        connection.execute_batch("SELECT 1").unwrap();
        // Rows outlive their connection.
        let mut rows = connection.statement(endless).unwrap().rows(&[], 2048).unwrap();
        drop(connection);
        assert!(rows.next().unwrap().is_ok());
    }

    #[test]
    fn another_thread_ends_what_runs() {
        let connection = open();
        let interrupt = connection.interrupt();
        // Nobody hears it while nothing runs.
        interrupt();
        let endless = "SELECT count(*) FROM range(1_000_000_000) a, range(1_000_000_000) b";
        let mut rows = connection.statement(endless).unwrap().rows(&[], 2048).unwrap();
        let ended = std::sync::atomic::AtomicBool::new(false);
        let failure = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(std::sync::atomic::Ordering::SeqCst) {
                    interrupt();
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
            });
            let failure = rows.next().unwrap().unwrap_err();
            ended.store(true, std::sync::atomic::Ordering::SeqCst);
            failure
        });
        assert!(failure.0.starts_with("INTERRUPT"), "{failure:?}");
        drop(rows);
        connection.execute_batch("SELECT 1").unwrap();
    }

    #[test]
    fn types_are_looked_into() {
        let connection = open();
        let text = "SELECT {'a': [1::BIT], 'b': MAP {'k': 1::UHUGEINT}} AS s, '1'::JSON AS j, \
                    [1, 2]::INTEGER[2] AS f, 'a'::ENUM('a', 'b') AS e, 1.5::DECIMAL(4, 1) AS d";
        let statement = connection.statement(text).unwrap();
        fn shown(kind: &Type) -> String {
            let inside: Vec<_> = kind.inside.iter().map(shown).collect();
            match inside.is_empty() {
                true => kind.name.clone(),
                false => format!("{}({})", kind.name, inside.join(", ")),
            }
        }
        let told: Vec<_> = statement
            .columns()
            .iter()
            .map(|column| format!("{}: {}", column.name, shown(&column.kind)))
            .collect();
        let expected = [
            "s: STRUCT(LIST(BIT), MAP(VARCHAR, UHUGEINT))",
            "j: JSON",
            "f: ARRAY(INTEGER)",
            "e: ENUM",
            "d: DECIMAL",
        ];
        assert_eq!(told, expected);
        let deep = format!("SELECT NULL::INTEGER{} AS deep", "[]".repeat(DEPTH_SEEN + 50));
        let statement = connection.statement(&deep).unwrap();
        let levels =
            std::iter::successors(Some(&statement.columns()[0].kind), |kind| kind.inside.first());
        assert_eq!(levels.count(), DEPTH_SEEN + 1);
    }

    #[test]
    fn instances_know_nothing_of_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let attach = format!("ATTACH '{}' AS a", dir.path().join("a.duckdb").display());
        let (one, other) = (open(), open());
        one.execute_batch("CREATE TABLE t (i INTEGER)").unwrap();
        one.try_clone().unwrap().execute_batch("FROM t").unwrap();
        assert!(other.execute_batch("FROM t").is_err());
        one.execute_batch(&attach).unwrap();
        one.execute_batch("DETACH a").unwrap();
        other.execute_batch(&attach).unwrap();
    }
}
