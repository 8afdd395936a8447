//! What the product does, without HTTP: report, question, drawing, instruction.
