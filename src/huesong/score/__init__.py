"""Sheet music of a piece: two staves as a pianist reads them, as MusicXML, SVG and PDF."""
