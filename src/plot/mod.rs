//! Charts, picture grids and the report page.
