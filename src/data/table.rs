//! Tables of pictures and labels, as competitions publish them: a CSV file with a row for each picture.
//!
//! ```
//! # fn main() -> onecycle::Result<()> {
//! use onecycle::data::{Table, Value};
//! let table = Table::parse("labels.csv", "fname,labels,is_valid\n1.jpg,cat dog,False\n2.jpg,,True\n")?;
//! assert_eq!(table.columns(), ["fname", "labels", "is_valid"]);
//! assert_eq!(table.rows()[0].get("labels")?, &Value::from("cat dog"));
//! assert_eq!(table.rows()[1].get(2)?, &Value::Bool(true));
//! # Ok(())
//! # }
//! ```
//!
//! A column whose cells are all whole numbers, numbers, or `True` and `False` holds such values, as with pandas: so classes
//! named 9 and 10 sort by their size. Two things differ on purpose. A column with a cell such as `007` stays text, because the
//! zeros are part of a file's name. And an empty cell, or one that says `NA`, is the text it is: pandas makes it a number that is
//! none.

use super::item::{Heading, Item, Row, Value};
use crate::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::Arc;

/// Rows with named columns. fastai takes a pandas `DataFrame` here.
#[derive(Clone, Debug)]
pub struct Table {
    heading: Arc<Heading>,
    rows: Vec<Row>,
}

/// How a CSV file is written.
#[derive(Clone, Copy, Debug)]
pub struct CsvOptions {
    /// Whether the first line names the columns; without, they are named 0, 1, 2 ..
    pub header: bool,
    /// What stands between two cells.
    pub delimiter: u8,
}

impl Default for CsvOptions {
    fn default() -> CsvOptions {
        CsvOptions { header: true, delimiter: b',' }
    }
}

impl Table {
    /// A table of `rows`, each with a value for every one of `columns`; `name` stands for it in messages.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] when a row is shorter or longer than the list of columns.
    pub fn new(name: &str, columns: Vec<String>, rows: Vec<Vec<Value>>) -> Result<Table> {
        let heading = Arc::new(Heading { table: name.into(), columns });
        let row = |(i, cells): (usize, Vec<Value>)| match cells.len() == heading.columns.len() {
            true => Ok(Row { heading: heading.clone(), cells: cells.into(), number: i + 1 }),
            false => {
                let (has, needs) = (cells.len(), heading.columns.len());
                Err(Error::new(
                    ErrorKind::Data,
                    format!("row {} has {has} cells, and there are {needs} columns", i + 1),
                )
                .on(name)
                .remedy("give every row a value for every column"))
            }
        };
        let rows = rows.into_iter().enumerate().map(row).collect::<Result<_>>()?;
        Ok(Table { heading, rows })
    }

    /// A CSV file whose first line names the columns. fastai: `pd.read_csv`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the file cannot be read, [`ErrorKind::Data`] when it is no table; both name `path`.
    pub fn read_csv(path: impl AsRef<Path>) -> Result<Table> {
        Table::read_csv_with(path, CsvOptions::default())
    }

    /// A CSV file written in another way.
    ///
    /// # Errors
    /// As [`Table::read_csv`].
    pub fn read_csv_with(path: impl AsRef<Path>, options: CsvOptions) -> Result<Table> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|e| Error::io("read the table", path, e))?;
        Table::parse_with(&path.display().to_string(), &bytes, options)
    }

    /// The table in a text; `name` stands for it in messages.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] when the text is no table.
    pub fn parse(name: &str, text: &str) -> Result<Table> {
        Table::parse_with(name, text.as_bytes(), CsvOptions::default())
    }

    fn parse_with(name: &str, bytes: &[u8], options: CsvOptions) -> Result<Table> {
        let fault = |e: csv::Error| {
            Error::new(ErrorKind::Data, format!("this is no table: {e}"))
                .on(name)
                .remedy("check the delimiter and the quotes; the text must be UTF-8 and every line have as many cells")
                .caused_by(e)
        };
        // Spreadsheets put a mark of three bytes before UTF-8, which would become a part of the first column's name.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut reader =
            csv::ReaderBuilder::new().has_headers(options.header).delimiter(options.delimiter).from_reader(bytes);
        let mut columns: Vec<String> = match options.header {
            true => reader.headers().map_err(fault)?.iter().map(str::to_owned).collect(),
            false => Vec::new(),
        };
        let mut rows = Vec::new();
        for record in reader.records() {
            rows.push(record.map_err(fault)?.iter().map(str::to_owned).collect::<Vec<String>>());
        }
        if !options.header {
            columns = (0..rows.first().map_or(0, Vec::len)).map(|i| i.to_string()).collect();
        }
        let kinds: Vec<Kind> = (0..columns.len()).map(|c| Kind::of(rows.iter().map(|row| row[c].as_str()))).collect();
        let typed = |row: Vec<String>| row.into_iter().zip(&kinds).map(|(cell, kind)| kind.value(cell)).collect();
        Table::new(name, columns, rows.into_iter().map(typed).collect())
    }

    /// The names of the columns.
    pub fn columns(&self) -> &[String] {
        &self.heading.columns
    }

    /// The rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The rows as items of a data set.
    pub fn items(&self) -> Vec<Item> {
        self.rows.iter().cloned().map(Item::Row).collect()
    }

    /// What the table is called in messages: its file.
    pub fn name(&self) -> &str {
        &self.heading.table
    }
}

/// What the cells of a column are.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Bool,
    Int,
    Float,
}

impl Kind {
    /// The kind that all cells share; empty ones don't count.
    fn of<'a>(cells: impl Iterator<Item = &'a str> + Clone) -> Kind {
        let filled = cells.filter(|c| !c.is_empty());
        if filled.clone().next().is_none() {
            return Kind::Text;
        }
        // A leading zero is part of a name, not of a number: 007.
        let plain = |c: &str| {
            let digits = c.trim_start_matches(['-', '+']);
            !(digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit())
                && digits.starts_with(|d: char| d.is_ascii_digit() || d == '.')
        };
        [
            (Kind::Bool, filled.clone().all(|c| boolean(c).is_some())),
            (Kind::Int, filled.clone().all(|c| plain(c) && c.parse::<i64>().is_ok())),
            (Kind::Float, filled.clone().all(|c| plain(c) && c.parse::<f64>().is_ok())),
        ]
        .into_iter()
        .find(|(_, all)| *all)
        .map_or(Kind::Text, |(kind, _)| kind)
    }

    fn value(self, cell: String) -> Value {
        let typed = match self {
            Kind::Text => None,
            Kind::Bool => boolean(&cell).map(Value::Bool),
            Kind::Int => cell.parse().ok().map(Value::Int),
            Kind::Float => cell.parse().ok().map(Value::Float),
        };
        typed.unwrap_or(Value::Text(cell))
    }
}

/// What pandas takes for a truth value.
fn boolean(cell: &str) -> Option<bool> {
    match cell {
        "True" | "TRUE" | "true" => Some(true),
        "False" | "FALSE" | "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_the_type_of_their_cells() {
        let table = Table::parse("t", "a,b,c,d,e\n1,007,0.5,x,\n-2,008,3,TRUE,\n").unwrap();
        let first = table.rows()[0].cells();
        let expected = [Value::Int(1), "007".into(), Value::Float(0.5), "x".into(), "".into()];
        assert_eq!(first, expected);
        assert_eq!(table.rows()[1].cells()[2], Value::Float(3.0));
        assert_eq!(table.rows()[1].to_string(), "t, row 2 (-2, 008, 3.0, TRUE, )");
    }

    #[test]
    fn other_ways_of_writing() {
        let options = CsvOptions { header: false, delimiter: b';' };
        let table = Table::parse_with("t", b"\xef\xbb\xbf\"a;b\";1\nc;2\n", options).unwrap();
        assert_eq!(table.columns(), ["0", "1"]);
        assert_eq!(table.rows()[0].cells(), ["a;b".into(), Value::Int(1)]);
        assert!(Table::parse("t", "a,b\n").unwrap().rows().is_empty());
    }

    #[test]
    fn what_is_no_table_says_so() {
        let e = Table::parse("labels.csv", "a,b\n1,2,3\n").unwrap_err();
        assert!(
            e.kind() == ErrorKind::Data && e.item() == Some("labels.csv") && e.to_string().contains("line: 2"),
            "{e}"
        );
        assert!(Table::read_csv("nowhere.csv").unwrap_err().to_string().contains("nowhere.csv"));
        let e = Table::parse("t", "a,b\n1,2\n").unwrap().rows()[0].get("c").unwrap_err();
        assert!(e.to_string().contains("'c'") && e.to_string().contains("a, b"), "{e}");
    }
}
