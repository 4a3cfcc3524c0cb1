//! Tables without borders: easy to read, easy to cut.

use comfy_table::{Cell, CellAlignment, presets};

use super::units::printable;

/// A column: its title, and whether it holds numbers.
pub(super) enum Column {
    Text(&'static str),
    Number(&'static str),
}

/// Draws rows under a head. Every cell is made printable here, so no caller can forget it.
pub(super) fn draw(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(presets::NOTHING);
    let cell = |column: &Column, text: &str| match column {
        Column::Text(_) => Cell::new(text),
        Column::Number(_) => Cell::new(text).set_alignment(CellAlignment::Right),
    };
    table.set_header(columns.iter().map(|column| match column {
        Column::Text(title) | Column::Number(title) => cell(column, title),
    }));
    for row in rows {
        table.add_row(columns.iter().zip(row).map(|(column, text)| cell(column, &printable(&text))));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
