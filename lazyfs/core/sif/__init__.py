"""SIF, the image format of Apptainer and Singularity: one file of a header, a table, and the objects that the
table names (github.com/apptainer/sif, pkg/sif)."""
