/* An edit that is written from an amended snapshot. Included by _graph.c.

   It is a pickle of what edits.py says: objects that changed, with what they hold now; names with new values; names that
   went. Objects that are new are written as a snapshot's are; one that was there before is its number. */

/* The new objects alone, as a snapshot that owns nothing. */
static int open_new(Snapshot *only, const Snapshot *s, PyObject *added)
{
    size_t n = (size_t)PyList_GET_SIZE(added), nwords = 0;
    *only = (Snapshot){.infos = s->base->infos, .ninfos = s->base->ninfos};
    only->records = PyMem_RawMalloc((n + 1) * sizeof *only->records);
    if (only->records == NULL) {
        PyErr_NoMemory();
        return FAILED;
    }
    const Part *parts = s->parts + s->nchanged, *end = s->parts + s->nparts;
    for (size_t i = 0; i < n; i++) {  /* they are the last parts that are not gone, in their order */
        PyObject *o = PyLong_AsVoidPtr(PyList_GET_ITEM(added, (Py_ssize_t)i));
        while (parts < end && (parts->is_gone || parts->record.obj != o))
            parts++;
        if (parts == end)
            return PyErr_Occurred() ? FAILED : REFUSED;
        only->records[only->nrecords++] = parts->record;
        nwords += parts++->record.count;
    }
    only->words = PyMem_RawMalloc((nwords + 1) * sizeof *only->words);
    if (only->words == NULL) {
        PyErr_NoMemory();
        return FAILED;
    }
    parts = s->parts + s->nchanged;
    for (size_t i = 0; i < n; i++) {
        while (parts->is_gone || parts->record.obj != only->records[i].obj)
            parts++;
        memcpy(only->words + only->nwords, parts->words, parts->record.count * sizeof *only->words);
        only->nwords += parts++->record.count;
    }
    return WRITTEN;
}

static void close_new(Snapshot *only)
{
    PyMem_RawFree(only->records);
    PyMem_RawFree(only->words);
}

/* Anything that the contents of a changed object list. */
static int put_object(Writer *w, PyObject *o)
{
    if (is_written_as_itself(o))
        return put_atom(w, o);
    Py_ssize_t k = find_before(&w->index, o);
    if (k == -2)
        return FAILED;
    if (k >= 0)
        return put_place(w, w->numbers[k] - 1);
    uint32_t place = place_of(&w->places, o);
    return place != 0 ? put_place(w, place - 1) : put_number_before(w, o);
}

static int put_list(Writer *w, PyObject *list)
{
    int failed = put(w, "](", 2);
    for (Py_ssize_t i = 0; !failed && i < PyList_GET_SIZE(list); i++)
        failed = put_object(w, PyList_GET_ITEM(list, i));
    return failed ? failed : put_op(w, 'e');
}

static int put_dict(Writer *w, PyObject *dict)
{
    int failed = put(w, "}(", 2);
    Py_ssize_t pos = 0;
    PyObject *key, *value;
    while (!failed && PyDict_Next(dict, &pos, &key, &value)) {
        failed = put_object(w, key);
        if (!failed)
            failed = put_object(w, value);
    }
    return failed ? failed : put_op(w, 'u');
}

/* (object, items before, items after, what is between or its attributes) */
static int put_said(Writer *w, PyObject *said)
{
    if (!PyTuple_Check(said) || PyTuple_GET_SIZE(said) != 4)
        return REFUSED;
    PyObject *contents = PyTuple_GET_ITEM(said, 3);
    int failed = put_op(w, '(');
    for (int i = 0; !failed && i < 3; i++)
        failed = put_object(w, PyTuple_GET_ITEM(said, i));
    if (!failed)
        failed = PyList_CheckExact(contents) ? put_list(w, contents) : PyDict_CheckExact(contents) ? put_dict(w, contents) : REFUSED;
    return failed ? failed : put_op(w, 't');
}

static int put_edit(Writer *w, PyObject *said, PyObject *names, PyObject *without)
{
    int failed = open_frame(w);
    if (!failed)
        failed = put_records(w);
    if (!failed)
        failed = put(w, "](", 2);
    for (Py_ssize_t i = 0; !failed && i < PyList_GET_SIZE(said); i++)
        failed = put_said(w, PyList_GET_ITEM(said, i));
    if (!failed)
        failed = put_op(w, 'e');
    if (!failed)
        failed = put_dict(w, names);
    if (!failed)
        failed = put_list(w, without);
    if (!failed)
        failed = put_op(w, '\x87');
    return failed ? failed : close_frame(w);
}

static PyObject *places_of_new(const Writer *w)
{
    PyObject *found = PyList_New(0);
    for (size_t i = 0; found != NULL && i < w->s->nrecords; i++)
        if (append_new(found, PyLong_FromUnsignedLong(w->numbers[i] - 1)) < 0)
            Py_CLEAR(found);
    return found;
}

/* edit_needs(added, least, most): as `needs`, of the new objects; None also if they refer to less than `least` others. */
static PyObject *snapshot_edit_needs(Snapshot *s, PyObject *args)
{
    PyObject *added, *samples = PyList_New(0), *foreign = PyList_New(0), *found = NULL;
    Py_ssize_t least, most;
    Snapshot only = {0};
    if (samples != NULL && foreign != NULL && PyArg_ParseTuple(args, "O!nn:edit_needs", &PyList_Type, &added, &least, &most)) {
        int failed = s->base == NULL || s->nroots == SIZE_MAX || s->has_shared_dict ? REFUSED : open_new(&only, s, added);
        if (!failed)
            failed = only.nwords < (size_t)least ? REFUSED : check_records(&only, samples);
        if (!failed)
            failed = list_foreign(&only, (size_t)most, foreign);
        if (failed >= 0)
            found = failed ? Py_NewRef(Py_None) : PyTuple_Pack(2, samples, foreign);
    }
    close_new(&only);
    Py_XDECREF(samples);
    Py_XDECREF(foreign);
    return found;
}

/* write_edit(roots, added, said, names, without, numbers, gone, places, first): (bytes, places that are taken then, the
   place of each new object); None if something changed since, or it cannot be written. */
static PyObject *snapshot_write_edit(Snapshot *s, PyObject *args)
{
    PyObject *roots, *added, *said, *names, *without, *numbers, *gone, *places, *found = NULL;
    unsigned int first;
    if (!PyArg_ParseTuple(args, "O!O!O!O!O!OOO!I:write_edit", &PyTuple_Type, &roots, &PyList_Type, &added, &PyList_Type, &said,
                          &PyDict_Type, &names, &PyList_Type, &without, &numbers, &gone, &PyDict_Type, &places,
                          &first))
        return NULL;
    if (!PyAnySet_Check(gone)) {
        PyErr_SetString(PyExc_TypeError, "what is gone is a set");
        return NULL;
    }
    Writer w = {0};
    Snapshot only = {0};
    int collects = PyGC_Disable();
    int failed = s->base == NULL || amended_graph_differs(s, &PyTuple_GET_ITEM(roots, 0), (size_t)PyTuple_GET_SIZE(roots)) ? REFUSED
                 : open_new(&only, s, added);
    if (!failed)
        failed = open_writer(&w, &only, places, first);
    w.numbers_before = numbers;
    w.gone = gone;
    if (!failed)
        failed = put_edit(&w, said, names, without);
    PyObject *of_new = !failed ? places_of_new(&w) : NULL;
    if (of_new != NULL)
        found = Py_BuildValue("y#IN", w.out, (Py_ssize_t)w.n, w.next, of_new);
    close_writer(&w);
    close_new(&only);
    if (collects)
        PyGC_Enable();
    if (failed == REFUSED)
        Py_RETURN_NONE;
    return found;
}
