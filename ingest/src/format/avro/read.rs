//! A record's binary form into the columns, along a plan.

use super::super::column::{Column, Object, Values};
use super::super::reason::Found;
use super::super::rows::{self, Misfit, misfit, within_field};
use super::super::scalar;
use super::cursor::Cursor;
use super::plan::{Action, Plan, RecordPlan, Step};
use super::schema::{Schema, Type, TypeId, Unit};
use super::walk::{Limits, decimal, skip, write_json};

/// Appends a record's values to the columns.
pub(super) fn record(plan: &Plan, bytes: &[u8], object: &mut Object) -> Result<(), Misfit> {
    let mut reader =
        Reader { schema: &plan.schema, cursor: Cursor::new(bytes), limits: Limits::new(bytes.len()) };
    reader.record(&plan.record, object)?;
    match reader.cursor.left() {
        0 => Ok(()),
        left => Err(misfit(format!("{left} bytes are left behind the record"))),
    }
}

struct Reader<'a> {
    schema: &'a Schema,
    cursor: Cursor<'a>,
    limits: Limits,
}

impl Reader<'_> {
    fn record(&mut self, plan: &RecordPlan, object: &mut Object) -> Result<(), Misfit> {
        for step in &plan.steps {
            match step {
                Step::Read(index, action) => {
                    if let Err(problem) = self.value(action, &mut object.columns[*index]) {
                        return Err(within_field(problem, object.name(*index)));
                    }
                }
                Step::Skip(id) => skip(self.schema, *id, &mut self.cursor, &mut self.limits)?,
            }
        }
        for index in &plan.missing {
            if let Err(problem) = self.null(&mut object.columns[*index], Found::Nothing) {
                return Err(within_field(problem, object.name(*index)));
            }
        }
        Ok(())
    }

    fn null(&mut self, column: &mut Column, found: Found<'_>) -> Result<(), Misfit> {
        self.limits.fill(column.width)?;
        rows::null(column, found)
    }

    #[inline]
    fn value(&mut self, action: &Action, column: &mut Column) -> Result<(), Misfit> {
        match action {
            Action::Optional(null, inner) => {
                if self.cursor.index(2)? == *null {
                    return self.null(column, Found::Null);
                }
                self.present(inner, column)
            }
            action => self.present(action, column),
        }
    }

    fn present(&mut self, action: &Action, column: &mut Column) -> Result<(), Misfit> {
        match action {
            Action::Integer => {
                let value = self.cursor.long()?;
                integer(value, column)
            }
            Action::Int => {
                let value = self.cursor.int()?;
                integer(value.into(), column)
            }
            Action::Text => {
                let text = self.cursor.text()?;
                self.text(text, column)
            }
            Action::Double => {
                let value = self.cursor.double()?;
                double(value, column)
            }
            action => self.rarer(action, column),
        }
    }

    /// What most fields are not; apart, so that the way of most fields is short.
    #[inline(never)]
    fn rarer(&mut self, action: &Action, column: &mut Column) -> Result<(), Misfit> {
        match (action, &mut column.values) {
            (Action::Null, _) => return self.null(column, Found::Null),
            (Action::Optional(..), _) => return self.value(action, column),
            (Action::Union(actions), _) => {
                let index = self.cursor.index(actions.len())?;
                return self.value(&actions[index], column);
            }
            (Action::Json(id), Values::Json(_)) => return self.json(*id, column),
            (Action::Bool, Values::Bool(values)) => values.push(self.cursor.boolean()?),
            (Action::Float, _) => return double(self.cursor.float()?.into(), column),
            (Action::Millis, Values::Timestamp(values)) => {
                let millis = self.cursor.long()?;
                if !rows::push(values, scalar::micros_of_millis(millis)) {
                    return Err(rows::mismatch(column, Found::Integer(millis.into())));
                }
            }
            (Action::Timestamp(unit), Values::Timestamp(values)) => {
                let value = self.cursor.long()?;
                if !rows::push(values, micros(value, *unit)) {
                    return Err(rows::mismatch(column, Found::Integer(value.into())));
                }
            }
            (Action::Date, Values::Date(values)) => {
                let days = self.cursor.int()?;
                if scalar::day(days).is_none() {
                    return Err(rows::mismatch(column, Found::Integer(days.into())));
                }
                values.push(days);
            }
            (Action::Symbol(id), Values::String(text)) => {
                let Type::Enum(symbols) = self.schema.get(*id) else { return Err(unplanned()) };
                let symbol = &symbols[self.cursor.index(symbols.len())?];
                self.limits.grow(symbol.len())?;
                text.push(symbol);
            }
            (Action::Bytes, Values::Binary(values)) => values.push_bytes(self.cursor.bytes()?),
            (Action::Fixed(size), Values::Binary(values)) => values.push_bytes(self.cursor.take(*size)?),
            (Action::Decimal { scale, size }, values) => {
                let digits = decimal(&mut self.cursor, *scale, *size)?;
                match values {
                    Values::String(text) => {
                        self.limits.grow(digits.len())?;
                        text.push(&digits);
                    }
                    Values::Float64(values) => values.push(digits.parse().unwrap_or(f64::NAN)),
                    _ => return Err(unplanned()),
                }
            }
            (Action::Struct(plan), Values::Struct(object)) => self.record(plan, object)?,
            (Action::List(action), Values::List(_)) => return self.list(action, column),
            (Action::Misfit(found), _) => return Err(rows::mismatch(column, Found::Type(found))),
            _ => return Err(unplanned()),
        }
        Ok(())
    }

    fn text(&mut self, text: &str, column: &mut Column) -> Result<(), Misfit> {
        let fits = match &mut column.values {
            Values::String(values) => {
                values.push(text);
                true
            }
            Values::Timestamp(values) => rows::push(values, scalar::micros_of_rfc3339(text)),
            Values::Date(values) => rows::push(values, scalar::days_of_date(text)),
            _ => false,
        };
        if fits { Ok(()) } else { Err(rows::mismatch(column, Found::String(text))) }
    }

    fn list(&mut self, action: &Action, column: &mut Column) -> Result<(), Misfit> {
        let Values::List(list) = &mut column.values else { return Err(unplanned()) };
        let mut index = 0;
        loop {
            let block = self.cursor.block()?;
            if block.count == 0 {
                break;
            }
            for _ in 0..block.count {
                let before = self.cursor.left();
                let result = self.value(action, &mut list.elements);
                let paid = result.and_then(|()| self.limits.item(before, self.cursor.left()));
                if let Err(mut problem) = paid {
                    problem.within_list(index);
                    return Err(problem);
                }
                index += 1;
            }
        }
        list.end();
        Ok(())
    }

    fn json(&mut self, id: TypeId, column: &mut Column) -> Result<(), Misfit> {
        let mut id = id;
        while let Type::Union(branches) = self.schema.get(id) {
            id = branches[self.cursor.index(branches.len())?];
        }
        if matches!(self.schema.get(id), Type::Null) {
            return self.null(column, Found::Null);
        }
        let Values::Json(text) = &mut column.values else { return Err(unplanned()) };
        write_json(self.schema, id, &mut self.cursor, &mut self.limits, text.open())?;
        text.end();
        Ok(())
    }
}

#[inline]
fn integer(value: i64, column: &mut Column) -> Result<(), Misfit> {
    let fits = match &mut column.values {
        Values::Int64(values) => rows::push(values, Some(value)),
        Values::Int32(values) => rows::push(values, i32::try_from(value).ok()),
        Values::Float64(values) => rows::push(values, Some(value as f64)),
        _ => false,
    };
    if fits { Ok(()) } else { Err(rows::mismatch(column, Found::Integer(value.into()))) }
}

fn double(value: f64, column: &mut Column) -> Result<(), Misfit> {
    match &mut column.values {
        Values::Float64(values) => values.push(value),
        _ => return Err(unplanned()),
    }
    Ok(())
}

/// Microseconds of so many units since 1970; `None` beyond the calendar. Digits beyond microseconds are cut off.
pub(super) fn micros(value: i64, unit: Unit) -> Option<i64> {
    let micros = match unit {
        Unit::Millis => return scalar::micros_of_millis(value),
        Unit::Micros => value,
        Unit::Nanos => value.div_euclid(1000),
    };
    scalar::in_calendar(micros.div_euclid(1000)).then_some(micros)
}

/// A plan is made by the columns that it is followed with.
#[cold]
fn unplanned() -> Misfit {
    misfit("the schema's plan does not fit its columns")
}
